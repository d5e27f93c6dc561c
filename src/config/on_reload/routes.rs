//! The keys of `routes.yaml`. One snapshot is compiled from all of them and swapped in; requests in flight keep theirs.

use super::OnReload::{Keeps, Keys, Swap};
use super::declare;
use crate::config::spec::*;

/// A target is the same when its URL and address are, in the pool of the same name, wherever it is in the list.
const TARGET: &str = "what is known of a target (verdict, circuit, load, ramp), by pool name, URL and address";
/// A pool whose keys are all the same goes on as it is; of another, this stays.
const POOL: &str = "what is known of the pool (whose turn it is) and its targets, by its name";
const BUCKETS: &str = "what is spent of each bucket (rescaled), by policy, route and subject";
const VERDICTS: &str = "the verdict until the next check, which decides alone";
const CIRCUIT: &str = "the circuit and what it counted, by target";
const TURNS: &str = "whose turn it is, by pool name; latencies and load, by target";
const TRUST: &str = "what is known of targets; new requests use no connection of an earlier trust";
const BUDGET: &str = "requests and retries of the last ten seconds, by pool name";
const PLACES: &str = "the places taken, by target and pool name, and who waits in line for one";
const ANSWERS: &str = "keys and kept answers, by route name and caller";
const CONNECTIONS: &str = "open connections to targets; new ones have the new value";

declare! {
    /// What each key of `routes.yaml` declares.
    ROUTES:
    RoutesSpec at "" {
        version: Swap,
        pools: Keeps(POOL),
        limits: Keeps(BUCKETS),
        limit_headers: Keys,
        flood_guard: Keys,
        cors: Keys,
        defaults: Keys,
        routes: Keeps("requests in flight, with the table they began with; counters and buckets, by route name"),
    }
    PoolSpec at "pools.NAME" {
        targets: Keeps(TARGET),
        service: Swap,
        health: Keys,
        breaker: Keys,
        panic: Swap,
        balance: Keeps(TURNS),
        slow_start: Keeps("ramps under way, by target"),
        concurrency: Keys,
        retries: Keys,
        timeouts: Keys,
        tls: Keys,
        http2: Keeps(CONNECTIONS),
        resolve_every: Keeps("the addresses known last"),
    }
    HashSpec at "pools.NAME.balance" {
        consistent_hash: Keeps(TURNS),
    }
    HashHeaderSpec at "pools.NAME.balance.consistent_hash" {
        header: Keeps(TURNS),
    }
    TargetSpec at "pools.NAME.targets[]" {
        url: Keeps("nothing: it is another target, which gets its first check before requests"),
        weight: Keeps(TARGET),
        backup: Keeps(TARGET),
        drain: Keeps(TARGET),
    }
    HealthSpec at "pools.NAME.health" {
        path: Keeps(VERDICTS),
        tcp: Keeps(VERDICTS),
        statuses: Keeps(VERDICTS),
        every: Keeps("verdicts and what speaks against them"),
        timeout: Keeps("verdicts and what speaks against them"),
        rise: Keeps("verdicts and what speaks against them"),
        fall: Keeps("verdicts and what speaks against them"),
    }
    BreakerSpec at "pools.NAME.breaker" {
        failures: Keeps(CIRCUIT),
        success_percent: Keeps(CIRCUIT),
        min_requests: Keeps(CIRCUIT),
        window: Keeps(CIRCUIT),
        open_for: Keeps(CIRCUIT),
        longest_open: Keeps(CIRCUIT),
        close_after: Keeps(CIRCUIT),
        statuses: Keeps(CIRCUIT),
        max_ejected: Keeps(CIRCUIT),
    }
    RetriesSpec at "pools.NAME.retries" {
        max: Swap,
        statuses: Swap,
        backoff: Swap,
        longest_backoff: Swap,
        budget: Keeps(BUDGET),
        floor: Keeps(BUDGET),
        replay: Swap,
    }
    ConcurrencySpec at "pools.NAME.concurrency" {
        per_target: Keeps(PLACES),
        per_pool: Keeps(PLACES),
        queue: Keeps(PLACES),
        queue_timeout: Keeps(PLACES),
    }
    UpstreamTlsSpec at "pools.NAME.tls" [files] {
        ca: Keeps(TRUST),
        cert: Keeps(TRUST),
        key: Keeps(TRUST),
        server_name: Keeps(TRUST),
    }
    TimeoutsSpec at "pools.NAME.timeouts" {
        connect: Swap,
        read: Swap,
        write: Swap,
        idle: Keeps(CONNECTIONS),
    }
    LimitSpec at "limits.NAME" {
        by: Keeps("nothing: buckets belong to a subject"),
        over: Keeps("nothing: buckets belong to a route or to all"),
        rate: Keeps(BUCKETS),
        roles: Keys,
        burst: Keeps(BUCKETS),
        cost: Swap,
        in_flight: Keeps("requests in flight, by policy, route and subject"),
        shadow: Keeps(BUCKETS),
        sharing: Keeps("buckets where they were: a policy that is shared from now on, or no longer, has new ones"),
        on_store_failure: Swap,
    }
    SubjectHeaderSpec at "limits.NAME.by" {
        header: Keeps("nothing: buckets belong to a subject"),
    }
    RoleRates at "limits.NAME.roles" {
        anonymous: Keeps(BUCKETS),
        candidat: Keeps(BUCKETS),
        recruteur: Keeps(BUCKETS),
        admin: Keeps(BUCKETS),
    }
    LimitHeadersSpec at "limit_headers" {
        ietf: Swap,
        x_ratelimit: Swap,
        jitter: Swap,
    }
    FloodGuardSpec at "flood_guard" {
        rate: Keeps("what each address has spent, by address"),
        burst: Keeps("what each address has spent, by address"),
    }
    CorsSpec at "cors" {
        origins: Swap,
        max_age: Swap,
    }
    DefaultsSpec at "defaults" {
        auth: Swap,
        limits: Keeps(BUCKETS),
        timeout: Swap,
        max_body: Swap,
        compress: Swap,
    }
    RouteSpec at "routes[]" {
        name: Keeps("counters and buckets, by this name"),
        r#match: Keys,
        to: Keys,
        auth: Swap,
        revocation: Swap,
        limits: Keeps(BUCKETS),
        group: Keeps("nothing: buckets belong to a group, or to a route that has none"),
        timeout: Swap,
        retries: Swap,
        body: Keys,
        allow_from: Swap,
        cache_control: Swap,
        compress: Swap,
        idempotency: Keys,
        websocket: Keys,
        summary: Swap,
    }
    LimitCostSpec at "routes[].limits[]" {
        policy: Keeps(BUCKETS),
        cost: Swap,
    }
    IdempotencySpec at "routes[].idempotency" {
        ttl: Keeps(ANSWERS),
        required: Keeps(ANSWERS),
        max_answer: Keeps(ANSWERS),
    }
    WebsocketSpec at "routes[].websocket" {
        idle: Keeps("open tunnels, with the idle time they began with"),
    }
    MatchSpec at "routes[].match" {
        path: Swap,
        prefix: Swap,
        methods: Swap,
    }
    DestinationSpec at "routes[].to" {
        pool: Swap,
        path: Swap,
        builtin: Swap,
        aggregate: Keys,
    }
    AggregateSpec at "routes[].to.aggregate" {
        parts: Swap,
        on_failure: Swap,
    }
    PartSpec at "routes[].to.aggregate.parts.KEY" {
        pool: Swap,
        path: Swap,
    }
    BodySpec at "routes[].body" {
        max: Swap,
        content_types: Swap,
        json: Swap,
        json_max: Swap,
    }
    RolesSpec at "routes[].auth" {
        roles: Swap,
        message: Swap,
        api_keys: Swap,
    }
    TextSpec at "routes[].auth.message" {
        fr: Swap,
        en: Swap,
    }
    BoundedSpec at "routes[].revocation" {
        bounded: Swap,
    }
}
