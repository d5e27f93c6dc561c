//! Statements about overrides of limits and blocked addresses. Who changes them locks the row of the stamp first.

use deadpool_postgres::{ClientWrapper, Transaction};
use ipnet::IpNet;
use tokio_postgres::Row;

use super::super::{AddressBlock, LimitOverride, LimitRules, MAX_BLOCKS, MAX_OVERRIDES, StoreError};
use super::rows;
use crate::model::identity::UserId;

pub(super) async fn put_override(client: &mut ClientWrapper, new: LimitOverride, stamp: i64) -> Result<(), StoreError> {
    let transaction = begin(client, stamp, new.made_at_ms.div_euclid(1000)).await?;
    let put = transaction
        .prepare_cached(
            "INSERT INTO limit_overrides (user_id, policy, rate, burst, until_s, made_at_ms)
             SELECT id, $2, $3, $4, $5, $6 FROM users WHERE id = $1
             ON CONFLICT (user_id, policy) DO UPDATE SET rate = excluded.rate, burst = excluded.burst,
                 until_s = excluded.until_s, made_at_ms = excluded.made_at_ms",
        )
        .await?;
    let (rate, burst) = (new.rate.to_string(), new.burst.map(i64::from));
    let values: [&(dyn tokio_postgres::types::ToSql + Sync); 6] =
        [&new.user.0, &new.policy, &rate, &burst, &new.until_s, &new.made_at_ms];
    if transaction.execute(&put, &values).await? == 0 {
        return Err(StoreError::Conflict);
    }
    if count(&transaction, "SELECT count(*) FROM limit_overrides").await? > i64::from(MAX_OVERRIDES) {
        return Err(StoreError::Full { most: MAX_OVERRIDES, what: "overrides of limits" });
    }
    transaction.commit().await?;
    Ok(())
}

pub(super) async fn remove_override(
    client: &mut ClientWrapper,
    user: UserId,
    policy: String,
    now_s: i64,
    stamp: i64,
) -> Result<bool, StoreError> {
    let transaction = begin(client, stamp, now_s).await?;
    let delete = transaction.prepare_cached("DELETE FROM limit_overrides WHERE user_id = $1 AND policy = $2").await?;
    let gone = transaction.execute(&delete, &[&user.0, &policy]).await?;
    transaction.commit().await?;
    Ok(gone == 1)
}

pub(super) async fn put_block(client: &mut ClientWrapper, new: AddressBlock, stamp: i64) -> Result<(), StoreError> {
    let transaction = begin(client, stamp, new.made_at_ms.div_euclid(1000)).await?;
    let put = transaction
        .prepare_cached(
            "INSERT INTO address_blocks (network, until_s, reason, made_at_ms) VALUES ($1, $2, $3, $4)
             ON CONFLICT (network) DO UPDATE SET until_s = excluded.until_s, reason = excluded.reason,
                 made_at_ms = excluded.made_at_ms",
        )
        .await?;
    let network = new.network.to_string();
    transaction.execute(&put, &[&network, &new.until_s, &new.reason, &new.made_at_ms]).await?;
    if count(&transaction, "SELECT count(*) FROM address_blocks").await? > i64::from(MAX_BLOCKS) {
        return Err(StoreError::Full { most: MAX_BLOCKS, what: "blocked networks" });
    }
    transaction.commit().await?;
    Ok(())
}

pub(super) async fn remove_block(
    client: &mut ClientWrapper,
    network: IpNet,
    now_s: i64,
    stamp: i64,
) -> Result<bool, StoreError> {
    let transaction = begin(client, stamp, now_s).await?;
    let delete = transaction.prepare_cached("DELETE FROM address_blocks WHERE network = $1").await?;
    let gone = transaction.execute(&delete, &[&network.to_string()]).await?;
    transaction.commit().await?;
    Ok(gone == 1)
}

pub(super) async fn read(client: &ClientWrapper, known: Option<i64>) -> Result<Option<LimitRules>, StoreError> {
    // The stamp first: what is read after it may be newer, and is read once more then, but never older.
    let stamp = client.prepare_cached("SELECT stamp FROM limit_rules").await?;
    let stamp = rows::get(&client.query_one(&stamp, &[]).await?, 0, "limit_rules.stamp")?;
    if known == Some(stamp) {
        return Ok(None);
    }
    let overrides = client
        .prepare_cached(
            "SELECT user_id, policy, rate, burst, until_s, made_at_ms FROM limit_overrides
             ORDER BY user_id, policy",
        )
        .await?;
    let overrides = client.query(&overrides, &[]).await?;
    let blocks = client
        .prepare_cached(
            "SELECT network, until_s, reason, made_at_ms FROM address_blocks
             ORDER BY made_at_ms, network",
        )
        .await?;
    let blocks = client.query(&blocks, &[]).await?;
    Ok(Some(LimitRules {
        stamp,
        overrides: overrides.iter().map(read_override).collect::<Result<_, _>>()?,
        blocks: blocks.iter().map(read_block).collect::<Result<_, _>>()?,
    }))
}

/// Forgets what ended, under the lock. No gateway needs to be told: each knows when it ends.
pub(super) async fn forget_ended(client: &mut ClientWrapper, now_s: i64) -> Result<(), StoreError> {
    let transaction = client.transaction().await?;
    let lock = transaction.prepare_cached("SELECT 1 FROM limit_rules FOR UPDATE").await?;
    transaction.execute(&lock, &[]).await?;
    forget_within(&transaction, now_s).await?;
    transaction.commit().await?;
    Ok(())
}

async fn forget_within(transaction: &Transaction<'_>, now_s: i64) -> Result<(), StoreError> {
    for sql in ["DELETE FROM limit_overrides WHERE until_s <= $1", "DELETE FROM address_blocks WHERE until_s <= $1"] {
        let delete = transaction.prepare_cached(sql).await?;
        transaction.execute(&delete, &[&now_s]).await?;
    }
    Ok(())
}

/// Locks, and forgets what ended.
async fn begin(client: &mut ClientWrapper, stamp: i64, now_s: i64) -> Result<Transaction<'_>, StoreError> {
    let transaction = client.transaction().await?;
    let update = transaction.prepare_cached("UPDATE limit_rules SET stamp = $1").await?;
    transaction.execute(&update, &[&stamp]).await?;
    forget_within(&transaction, now_s).await?;
    Ok(transaction)
}

async fn count(transaction: &Transaction<'_>, sql: &str) -> Result<i64, StoreError> {
    let count = transaction.prepare_cached(sql).await?;
    rows::get(&transaction.query_one(&count, &[]).await?, 0, "count")
}

fn read_override(row: &Row) -> Result<LimitOverride, StoreError> {
    const BURST: &str = "limit_overrides.burst";
    let rate: &str = rows::get(row, 2, "limit_overrides.rate")?;
    let burst: Option<i64> = rows::get(row, 3, BURST)?;
    Ok(LimitOverride {
        user: UserId(rows::get(row, 0, "limit_overrides.user_id")?),
        policy: rows::get(row, 1, "limit_overrides.policy")?,
        rate: rate.parse().map_err(|_| StoreError::Unreadable("limit_overrides.rate"))?,
        burst: burst.map(u32::try_from).transpose().map_err(|_| StoreError::Unreadable(BURST))?,
        until_s: rows::get(row, 4, "limit_overrides.until_s")?,
        made_at_ms: rows::get(row, 5, "limit_overrides.made_at_ms")?,
    })
}

fn read_block(row: &Row) -> Result<AddressBlock, StoreError> {
    let network: &str = rows::get(row, 0, "address_blocks.network")?;
    Ok(AddressBlock {
        network: network.parse().map_err(|_| StoreError::Unreadable("address_blocks.network"))?,
        until_s: rows::get(row, 1, "address_blocks.until_s")?,
        reason: rows::get(row, 2, "address_blocks.reason")?,
        made_at_ms: rows::get(row, 3, "address_blocks.made_at_ms")?,
    })
}
