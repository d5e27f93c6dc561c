//! Connections and subscriptions, against real servers that go and come back.

use std::time::Duration;

use redis::Script;
use secrecy::SecretString;
use tokio::runtime::Handle;
use tokio::sync::watch;

use super::*;
use crate::store::{Admission, Claim, ThrottleStore as _};
use crate::testkit::redis_server::PrivateRedis;
use crate::testkit::wait::{PATIENCE, soon};

fn shared(url: &str) -> std::sync::Arc<SharedRedis> {
    SharedRedis::new(&SecretString::from(url.to_owned()), "t:").unwrap()
}

/// A kept connection, and what was told of it.
async fn kept(url: &str) -> (std::sync::Arc<SharedRedis>, watch::Receiver<bool>) {
    let (tell, told) = watch::channel(false);
    let shared = shared(url);
    shared.keep(&Handle::current(), move |up| {
        tell.send_replace(up);
    });
    (shared, told)
}

#[test]
fn urls_that_cannot_be_used_are_refused_and_not_shown() {
    for url in [
        "redis://:hunter2@",
        "redis://u:hunter2@host:port",
        "redis://:hunter2@host/notanumber",
        "rediss://:hunter2@host/#insecure",
        "rediss://:hunter2@host/#other",
        "http://:hunter2@host",
        "hunter2",
        "",
    ] {
        let problem = SharedRedis::new(&SecretString::from(url.to_owned()), "t:").unwrap_err();
        let text = format!("{problem} {problem:?}");
        assert!(text.contains("expected redis://") && !text.contains("hunter2"), "{text}");
    }
    for url in ["redis://:hunter2@cache", "rediss://u:hunter2@cache:6380/3", "unix:///run/redis.sock?pass=hunter2"] {
        let shared = shared(url);
        assert_eq!(shared.key("x"), "t:x");
        assert!(!format!("{shared:?}").contains("hunter2"));
    }
}

#[tokio::test]
async fn without_a_server_commands_fail_at_once() {
    let (shared, told) = kept("redis://127.0.0.1:1").await;
    assert_eq!(shared.publish("c", "m", PATIENCE).await, Err(RedisProblem::Away));
    assert!(!shared.is_up() && !*told.borrow());
    assert!(shared.connect().await.is_err());
}

#[tokio::test]
async fn a_connection_comes_back_with_its_server() {
    let mut server = PrivateRedis::start().await;
    let (shared, mut told) = kept(&server.url()).await;
    for _ in 0..2 {
        soon("up", told.wait_for(|up| *up)).await.unwrap();
        shared.publish("c", "m", PATIENCE).await.unwrap();
        server.stop();
        soon("down", told.wait_for(|up| !*up)).await.unwrap();
        assert_eq!(shared.publish("c", "m", PATIENCE).await, Err(RedisProblem::Away));
        server.start_again().await;
    }
    soon("up", told.wait_for(|up| *up)).await.unwrap();
}

#[tokio::test]
async fn scripts_run_also_after_the_server_forgot_them() {
    let mut server = PrivateRedis::start().await;
    let (shared, mut told) = kept(&server.url()).await;
    let script = Script::new("return redis.call('INCRBY', KEYS[1], ARGV[1])");
    for _ in 0..2 {
        soon("up", told.wait_for(|up| *up)).await.unwrap();
        let call = |by: i64| {
            let mut call = script.key(shared.key("n"));
            call.arg(by);
            shared.ask(PATIENCE, |mut connection| async move { call.invoke_async::<i64>(&mut connection).await })
        };
        assert_eq!((call(2).await, call(3).await), (Ok(2), Ok(5)));
        server.stop();
        soon("down", told.wait_for(|up| !*up)).await.unwrap();
        server.start_again().await;
    }
}

#[tokio::test]
async fn an_answer_that_does_not_come_in_time_is_late() {
    let server = PrivateRedis::start().await;
    let (shared, mut told) = kept(&server.url()).await;
    soon("up", told.wait_for(|up| *up)).await.unwrap();
    let within = Duration::from_millis(20);
    let mut wait = redis::cmd("BLPOP");
    wait.arg("nothing").arg(0);
    let late = shared.ask(within, |mut connection| async move { wait.query_async::<()>(&mut connection).await }).await;
    assert_eq!(late, Err(RedisProblem::Late(within)));
}

#[tokio::test]
async fn a_refused_password_is_told_without_it() {
    let server = PrivateRedis::start().await;
    let url = server.url().replace("redis://", "redis://:hunter2@");
    let problem = shared(&url).connect().await.unwrap_err().to_string();
    assert!(problem.starts_with("Redis: ") && !problem.contains("hunter2"), "{problem}");
}

#[tokio::test]
async fn the_documented_access_list_suffices_and_less_is_said() {
    let server = PrivateRedis::start().await;
    let settings = include_str!("../../../docs/settings.md");
    let (_, documented) = settings.split_once("in an access list:\n`").unwrap();
    let documented = documented.split('`').next().unwrap().replace("ssm:*", "t:*");
    let list = format!("ACL SETUSER gateway on >pw {documented}");
    server.command(&list.split(' ').collect::<Vec<_>>());
    server.command(&["ACL", "SETUSER", "poor", "on", ">pw", "+@all", "resetchannels"]);
    for (user, hears) in [("gateway", true), ("poor", false)] {
        let (shared, mut told) = kept(&server.url().replace("redis://", &format!("redis://{user}:pw@"))).await;
        soon("up", told.wait_for(|up| *up)).await.unwrap();
        let heard = soon("word of the subscription", Subscription::new(shared.clone(), "news").next()).await;
        assert_eq!(heard == Heard::Subscribed, hears, "{heard:?}");
        assert_eq!(shared.publish("t:news", "m", PATIENCE).await.is_ok(), hears);
        let script = Script::new("return 1");
        let call = shared.ask(PATIENCE, |mut connection| async move {
            script.key("t:x").invoke_async::<i64>(&mut connection).await
        });
        assert_eq!(call.await.is_ok(), hears);
        let throttle = RedisThrottle::new(shared.clone(), None);
        let claim = Claim { email_key: "a@b.fr".to_owned(), address: "192.0.2.1".parse().ok() };
        let admitted = throttle.reserve(&claim).await;
        assert_eq!(matches!(admitted, Ok(Admission::Admitted(_))), hears, "{user}: {admitted:?}");
        assert_eq!(throttle.proven(&claim, None).await.is_ok(), hears);
    }
}

#[tokio::test]
async fn what_an_access_list_forbids_is_said_in_the_server_s_words() {
    let server = PrivateRedis::start().await;
    server.command(&["ACL", "SETUSER", "poor", "on", ">hunter2", "+@connection", "+@scripting", "~t:*"]);
    let shared = shared(&server.url().replace("redis://", "redis://poor:hunter2@"));
    shared.connect().await.unwrap();
    let claim = Claim { email_key: "a@b.fr".to_owned(), address: None };
    let secret = SecretString::from("s".repeat(32));
    for throttle in [RedisThrottle::new(shared.clone(), None), RedisThrottle::new(shared.clone(), Some(&secret))] {
        let said = throttle.reserve(&claim).await.unwrap_err().to_string();
        assert!(
            said.starts_with("Redis: NOPERM ") || said.starts_with("Redis: ERR The user executing the script"),
            "{said}"
        );
        assert!(!said.contains("identity store") && !said.contains("hunter2"), "{said}");
    }
    // Words that repeat what was sent are not passed on.
    let odd = shared.ask(PATIENCE, |mut connection| async move {
        redis::cmd("FROBNICATE").arg("hunter2").query_async::<()>(&mut connection).await
    });
    let said = odd.await.unwrap_err().to_string();
    assert!(said.starts_with("Redis: ") && !said.contains("hunter2"), "{said}");
}

#[tokio::test]
async fn a_unix_socket_will_do() {
    let server = PrivateRedis::start().await;
    let shared = shared(&format!("unix://{}", server.socket().display()));
    shared.connect().await.unwrap();
    shared.publish("c", "m", PATIENCE).await.unwrap();
}

#[tokio::test]
async fn a_subscription_says_when_it_begins_and_ends_and_begins_again() {
    let mut server = PrivateRedis::start().await;
    let (shared, mut told) = kept(&server.url()).await;
    let mut subscription = Subscription::new(shared.clone(), "news");
    for text in ["first", "second"] {
        let begun = soon("a subscription", async {
            loop {
                match subscription.next().await {
                    Heard::Lost(_) => {}
                    other => return other,
                }
            }
        });
        assert_eq!(begun.await, Heard::Subscribed);
        soon("up", told.wait_for(|up| *up)).await.unwrap();
        shared.publish("t:other", "not for us", PATIENCE).await.unwrap();
        shared.publish("t:news", text, PATIENCE).await.unwrap();
        assert_eq!(soon("a message", subscription.next()).await, Heard::Message(text.into()));
        server.stop();
        assert!(matches!(soon("the end", subscription.next()).await, Heard::Lost(_)));
        soon("down", told.wait_for(|up| !*up)).await.unwrap();
        server.start_again().await;
    }
}

#[tokio::test]
async fn a_server_that_hangs_is_away_until_it_goes_on() {
    let server = PrivateRedis::start().await;
    let (shared, mut told) = kept(&server.url()).await;
    let mut subscription = Subscription::new(shared.clone(), "news");
    assert_eq!(soon("a subscription", subscription.next()).await, Heard::Subscribed);
    soon("up", told.wait_for(|up| *up)).await.unwrap();
    let mut admin = redis::Client::open(server.url()).unwrap().get_connection().unwrap();
    // Longer than a ping may take, so seen from here it hangs; then it goes on by itself.
    redis::cmd("CLIENT").arg("PAUSE").arg(5_000).arg("ALL").exec(&mut admin).unwrap();
    assert!(matches!(soon("the end", subscription.next()).await, Heard::Lost(_)));
    soon("down", told.wait_for(|up| !*up)).await.unwrap();
    soon("up", told.wait_for(|up| *up)).await.unwrap();
    assert_eq!(soon("a subscription", subscription.next()).await, Heard::Subscribed);
}
