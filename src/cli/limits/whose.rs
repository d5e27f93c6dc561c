//! Whom an operator means: an account by its e-mail or its number, or a client address.

use std::net::IpAddr;
use std::time::Duration;

use anyhow::{Context as _, bail};

use crate::accounts::email::email_key;
use crate::cli::store::{Absent, StoreArgs};
use crate::config::env::Env;
use crate::model::identity::UserId;
use crate::model::limits_view::Whose;
use crate::store::{IdentityStore, User};

/// For how long a number is looked up: limits are often looked at while something is away.
const LOOK_UP_WITHIN: Duration = Duration::from_secs(2);

/// Who is meant. An account is looked up; its number is believed while the store does not answer.
pub(super) async fn find(text: &str, store: &StoreArgs, env: &Env) -> anyhow::Result<Whose> {
    match number_or_address(text) {
        Some(Whose::User(number)) => {
            let look_up = async { anyhow::Ok(store.open(env, Absent::Refuse).await?.user(UserId(number)).await?) };
            match tokio::time::timeout(LOOK_UP_WITHIN, look_up).await {
                Ok(Ok(None)) => bail!("no account has the number {number}"),
                Ok(_) | Err(_) => Ok(Whose::User(number)),
            }
        }
        Some(address) => Ok(address),
        None if text.contains('@') => {
            let found = by_email(&*store.open(env, Absent::Refuse).await?, text).await?;
            Ok(Whose::User(found.id.0))
        }
        None => bail!("\"{text}\" is none of: the e-mail of an account, its number, a client address"),
    }
}

/// The account that is meant.
pub(super) async fn account(store: &dyn IdentityStore, text: &str) -> anyhow::Result<User> {
    match number_or_address(text) {
        Some(Whose::User(number)) => {
            store.user(UserId(number)).await?.with_context(|| format!("no account has the number {number}"))
        }
        None if text.contains('@') => by_email(store, text).await,
        Some(Whose::Address(_)) | None => bail!("\"{text}\" is neither the e-mail of an account nor its number"),
    }
}

async fn by_email(store: &dyn IdentityStore, email: &str) -> anyhow::Result<User> {
    let found = store.credentials(&email_key(email)).await?;
    Ok(found.with_context(|| format!("no account has the address {email}"))?.user)
}

/// A number, or an address; of IPv6 also its /64, as it is shown.
fn number_or_address(text: &str) -> Option<Whose> {
    let number = text.parse().ok().filter(|number| *number > 0).map(Whose::User);
    let address = || text.strip_suffix("/64").filter(|rest| rest.contains(':')).unwrap_or(text).parse::<IpAddr>();
    number.or_else(|| address().ok().map(Whose::Address))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_addresses_are_told_apart() {
        let address = |text: &str| Some(Whose::Address(text.parse().unwrap()));
        assert_eq!(number_or_address("7"), Some(Whose::User(7)));
        assert_eq!(number_or_address("192.0.2.1"), address("192.0.2.1"));
        assert_eq!(number_or_address("2001:db8::1"), address("2001:db8::1"));
        assert_eq!(number_or_address("2001:db8:1:2::/64"), address("2001:db8:1:2::"));
        for none in ["0", "-7", "192.0.2.1/64", "192.0.2.0/24", "a@b.fr", "", "1.2.3"] {
            assert_eq!(number_or_address(none), None, "{none}");
        }
    }
}
