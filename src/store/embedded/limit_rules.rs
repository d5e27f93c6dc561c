//! Statements about overrides of limits and blocked addresses.

use ipnet::IpNet;
use rusqlite::{Connection, Row, Transaction, TransactionBehavior, params};

use super::super::{AddressBlock, LimitOverride, LimitRules, MAX_BLOCKS, MAX_OVERRIDES, StoreError};
use crate::model::identity::UserId;

pub(super) fn put_override(connection: &mut Connection, new: &LimitOverride, stamp: i64) -> Result<(), StoreError> {
    let transaction = begin(connection, stamp)?;
    forget_ended(&transaction, new.made_at_ms.div_euclid(1000))?;
    let put = transaction.execute(
        "INSERT INTO limit_overrides (user_id, policy, rate, burst, until_s, made_at_ms)
         SELECT id, ?2, ?3, ?4, ?5, ?6 FROM users WHERE id = ?1
         ON CONFLICT DO UPDATE SET rate = excluded.rate, burst = excluded.burst, until_s = excluded.until_s,
             made_at_ms = excluded.made_at_ms",
        params![new.user.0, new.policy, new.rate.to_string(), new.burst, new.until_s, new.made_at_ms],
    )?;
    if put == 0 {
        return Err(StoreError::Conflict);
    }
    let kept = transaction.query_row("SELECT count(*) FROM limit_overrides", [], |row| row.get::<_, u32>(0))?;
    if kept > MAX_OVERRIDES {
        return Err(StoreError::Full { most: MAX_OVERRIDES, what: "overrides of limits" });
    }
    transaction.commit()?;
    Ok(())
}

pub(super) fn remove_override(
    connection: &mut Connection,
    user: UserId,
    policy: &str,
    now_s: i64,
    stamp: i64,
) -> Result<bool, StoreError> {
    let transaction = begin(connection, stamp)?;
    forget_ended(&transaction, now_s)?;
    let gone = transaction
        .execute("DELETE FROM limit_overrides WHERE user_id = ?1 AND policy = ?2", params![user.0, policy])?;
    transaction.commit()?;
    Ok(gone == 1)
}

pub(super) fn put_block(connection: &mut Connection, new: &AddressBlock, stamp: i64) -> Result<(), StoreError> {
    let transaction = begin(connection, stamp)?;
    forget_ended(&transaction, new.made_at_ms.div_euclid(1000))?;
    transaction.execute(
        "INSERT OR REPLACE INTO address_blocks (network, until_s, reason, made_at_ms) VALUES (?1, ?2, ?3, ?4)",
        params![new.network.to_string(), new.until_s, new.reason, new.made_at_ms],
    )?;
    let kept = transaction.query_row("SELECT count(*) FROM address_blocks", [], |row| row.get::<_, u32>(0))?;
    if kept > MAX_BLOCKS {
        return Err(StoreError::Full { most: MAX_BLOCKS, what: "blocked networks" });
    }
    transaction.commit()?;
    Ok(())
}

pub(super) fn remove_block(
    connection: &mut Connection,
    network: IpNet,
    now_s: i64,
    stamp: i64,
) -> Result<bool, StoreError> {
    let transaction = begin(connection, stamp)?;
    forget_ended(&transaction, now_s)?;
    let gone = transaction.execute("DELETE FROM address_blocks WHERE network = ?1", [network.to_string()])?;
    transaction.commit()?;
    Ok(gone == 1)
}

pub(super) fn read(connection: &mut Connection, known: Option<i64>) -> Result<Option<LimitRules>, StoreError> {
    let transaction = connection.transaction()?; // one view of all
    let stamp = transaction.query_row("SELECT stamp FROM limit_rules", [], |row| row.get(0))?;
    if known == Some(stamp) {
        return Ok(None);
    }
    let overrides = all(
        &transaction,
        "SELECT user_id, policy, rate, burst, until_s, made_at_ms FROM limit_overrides
         ORDER BY user_id, policy",
        read_override,
    )?;
    let blocks = all(
        &transaction,
        "SELECT network, until_s, reason, made_at_ms FROM address_blocks
         ORDER BY made_at_ms, network",
        read_block,
    )?;
    Ok(Some(LimitRules { stamp, overrides, blocks }))
}

/// Forgets what ended. No gateway needs to be told: each knows when it ends.
pub(super) fn forget_ended(connection: &Connection, now_s: i64) -> Result<(), StoreError> {
    connection.execute("DELETE FROM limit_overrides WHERE until_s <= ?1", [now_s])?;
    connection.execute("DELETE FROM address_blocks WHERE until_s <= ?1", [now_s])?;
    Ok(())
}

fn begin(connection: &mut Connection, stamp: i64) -> Result<Transaction<'_>, StoreError> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    transaction.execute("UPDATE limit_rules SET stamp = ?1", [stamp])?;
    Ok(transaction)
}

fn all<T>(
    connection: &Connection,
    sql: &str,
    read: impl Fn(&Row<'_>) -> Result<T, StoreError>,
) -> Result<Vec<T>, StoreError> {
    let mut statement = connection.prepare_cached(sql)?;
    let mut found = statement.query([])?;
    let mut rules = Vec::new();
    while let Some(row) = found.next()? {
        rules.push(read(row)?);
    }
    Ok(rules)
}

fn read_override(row: &Row<'_>) -> Result<LimitOverride, StoreError> {
    let rate: String = row.get(2)?;
    Ok(LimitOverride {
        user: UserId(row.get(0)?),
        policy: row.get(1)?,
        rate: rate.parse().map_err(|_| StoreError::Unreadable("limit_overrides.rate"))?,
        burst: row.get(3)?,
        until_s: row.get(4)?,
        made_at_ms: row.get(5)?,
    })
}

fn read_block(row: &Row<'_>) -> Result<AddressBlock, StoreError> {
    let network: String = row.get(0)?;
    Ok(AddressBlock {
        network: network.parse().map_err(|_| StoreError::Unreadable("address_blocks.network"))?,
        until_s: row.get(1)?,
        reason: row.get(2)?,
        made_at_ms: row.get(3)?,
    })
}
