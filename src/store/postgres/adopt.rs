//! The earlier gateway's accounts become ours: same numbers, hashes, names, roles, states and dates.
//!
//! Its table is kept, under another name: nothing is destroyed, and an earlier gateway that still runs fails instead
//! of making accounts that nobody would see. Two accounts with one address are refused and named: which of them is
//! right only the operator can know.

use std::collections::HashMap;

use tokio_postgres::types::ToSql;
use tokio_postgres::{Row, Transaction};

use super::super::StoreError;
use super::adopted_columns::Columns;
use crate::model::email::email_key;
use crate::model::role::Role;

/// The name that the earlier table gets.
pub const KEPT_AS: &str = "users_before_ssm";

/// Accounts that are written at once.
const BATCH: usize = 1_000;

/// Accounts that a message names.
const NAMED: usize = 20;

/// What was taken over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Adopted {
    /// How many accounts.
    pub accounts: usize,
    /// Numbers of those whose password hash is of no kind that can be verified: they cannot log in.
    pub without_password: Vec<i64>,
}

/// The earlier gateway's accounts, read and checked, and what else of its schema is about them.
pub(super) struct Earlier {
    accounts: Vec<Account>,
    /// Foreign keys to its table: table, name, definition.
    references: Vec<(String, String, String)>,
}

struct Account {
    id: i64,
    email: String,
    email_key: String,
    full_name: String,
    password_hash: String,
    role: Role,
    is_active: bool,
    /// `None`: not known.
    created_at_ms: Option<i64>,
}

/// Whether something has the name of the earlier gateway's table, or the one that it gets here.
pub(super) async fn is_there(transaction: &Transaction<'_>) -> Result<bool, StoreError> {
    let sql = "SELECT EXISTS (SELECT FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
         WHERE n.nspname = current_schema() AND c.relname IN ('users', $1))";
    Ok(transaction.query_one(sql, &[&KEPT_AS]).await?.get(0))
}

/// Reads and checks the earlier gateway's table, when there is one, and gives it another name.
pub(super) async fn set_aside(transaction: &Transaction<'_>, name: &str) -> Result<Option<Earlier>, StoreError> {
    let Some(columns) = Columns::find(transaction, name).await? else { return Ok(None) };
    transaction.batch_execute("LOCK TABLE users IN ACCESS EXCLUSIVE MODE").await?;
    let rows = transaction.query(&format!("SELECT {} FROM users ORDER BY id", columns.select), &[]).await?;
    let accounts = check(rows.iter().map(|row| account(row, columns.has_active)), name)?;
    let references = references(transaction).await?;
    for (table, constraint, _) in &references {
        transaction.batch_execute(&format!("ALTER TABLE {table} DROP CONSTRAINT {constraint}")).await?;
    }
    transaction.batch_execute(&format!("ALTER TABLE users RENAME TO {KEPT_AS}")).await?;
    Ok(Some(Earlier { accounts, references }))
}

/// Writes the accounts into our table, lets new numbers follow the old ones, and leads references to it.
pub(super) async fn take_over(transaction: &Transaction<'_>, earlier: &Earlier) -> Result<Adopted, StoreError> {
    for batch in earlier.accounts.chunks(BATCH) {
        insert(transaction, batch).await?;
    }
    go_on_counting(transaction).await?;
    for (table, constraint, definition) in &earlier.references {
        transaction.batch_execute(&format!("ALTER TABLE {table} ADD CONSTRAINT {constraint} {definition}")).await?;
    }
    let without_password: Vec<i64> =
        earlier.accounts.iter().filter(|account| !is_known(&account.password_hash)).map(|account| account.id).collect();
    let accounts = earlier.accounts.len();
    tracing::info!(accounts, kept_as = KEPT_AS, "accounts of the earlier gateway taken over");
    if !without_password.is_empty() {
        let ids = listed(&without_password);
        tracing::warn!(ids, "accounts whose password hash cannot be verified: they cannot log in");
    }
    Ok(Adopted { accounts, without_password })
}

async fn insert(transaction: &Transaction<'_>, batch: &[Account]) -> Result<(), StoreError> {
    fn column<T>(batch: &[Account], of: impl Fn(&Account) -> T) -> Vec<T> {
        batch.iter().map(of).collect()
    }
    let ids = column(batch, |account| account.id);
    let keys = column(batch, |account| account.email_key.as_str().to_owned());
    let emails = column(batch, |account| account.email.clone());
    let names = column(batch, |account| account.full_name.clone());
    let roles = column(batch, |account| account.role.as_str());
    let hashes = column(batch, |account| account.password_hash.clone());
    let active = column(batch, |account| account.is_active);
    let created = column(batch, |account| account.created_at_ms);
    let columns: [&(dyn ToSql + Sync); 8] = [&ids, &keys, &emails, &names, &roles, &hashes, &active, &created];
    // An account without a date was made now, as far as anybody can tell.
    let sql = "INSERT INTO users (id, email_key, email, full_name, role, password_hash, is_active, created_at_ms)
         SELECT id, email_key, email, full_name, role, hash, active,
             coalesce(created, (extract(epoch FROM now()) * 1000)::bigint)
         FROM unnest($1::bigint[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::boolean[], $8::bigint[])
             AS earlier (id, email_key, email, full_name, role, hash, active, created)";
    transaction.execute(sql, &columns).await?;
    Ok(())
}

/// Numbers of accounts that the earlier gateway deleted are not given again: tokens may name them.
async fn go_on_counting(transaction: &Transaction<'_>) -> Result<(), StoreError> {
    let sql = format!("SELECT pg_get_serial_sequence('{KEPT_AS}', 'id')");
    let sequence: Option<String> = transaction.query_one(&sql, &[]).await?.get(0);
    let last: i64 = match sequence {
        Some(sequence) => transaction.query_one(&format!("SELECT last_value FROM {sequence}"), &[]).await?.get(0),
        None => 0,
    };
    let sql = "SELECT setval(pg_get_serial_sequence('users', 'id'), greatest(max(id), $1, 1)) FROM users";
    transaction.query_one(sql, &[&last]).await?;
    Ok(())
}

async fn references(transaction: &Transaction<'_>) -> Result<Vec<(String, String, String)>, StoreError> {
    let sql = "SELECT conrelid::regclass::text, quote_ident(conname), pg_get_constraintdef(oid)
         FROM pg_constraint WHERE contype = 'f' AND confrelid = 'users'::regclass AND conparentid = 0";
    let rows = transaction.query(sql, &[]).await?;
    Ok(rows.iter().map(|row| (row.get(0), row.get(1), row.get(2))).collect())
}

/// A row as an account, or its number and what is wrong with it.
fn account(row: &Row, has_active: bool) -> Result<Account, (i64, &'static str)> {
    let text = |at: usize| row.get::<_, Option<String>>(at).unwrap_or_default();
    let id: i64 = row.get(0);
    let email = text(1).trim().to_owned();
    if email.is_empty() {
        return Err((id, "no address"));
    }
    let role = match text(4).trim().to_ascii_lowercase().as_str() {
        "" => Role::Candidat, // the least that an account may be
        role => role.parse().map_err(|_| (id, "a role that is none of candidat, recruteur, admin"))?,
    };
    let name = text(2).trim().to_owned();
    let local_part = email.rsplit_once('@').map_or(email.as_str(), |(local, _)| local);
    Ok(Account {
        id,
        email_key: email_key(&email),
        full_name: if name.is_empty() { local_part.to_owned() } else { name },
        email,
        password_hash: text(3).trim().to_owned(),
        role,
        // A state that is not known lets nobody in, as with the earlier gateway.
        is_active: !has_active || matches!(text(5).as_str(), "true" | "t" | "1"),
        created_at_ms: row.get(6),
    })
}

/// All accounts, when each is one and no two have one address.
fn check(
    accounts: impl Iterator<Item = Result<Account, (i64, &'static str)>>,
    name: &str,
) -> Result<Vec<Account>, StoreError> {
    let (mut good, mut problems) = (Vec::new(), Vec::new());
    let mut by_key: HashMap<String, i64> = HashMap::new();
    for account in accounts {
        match account {
            Ok(account) => {
                if let Some(other) = by_key.insert(account.email_key.clone(), account.id) {
                    problems.push(format!("{other} and {} have one address", account.id));
                }
                good.push(account);
            }
            Err((id, what)) => problems.push(format!("{id} has {what}")),
        }
    }
    if problems.is_empty() {
        return Ok(good);
    }
    let more = problems.len().saturating_sub(NAMED);
    problems.truncate(NAMED);
    let more = if more == 0 { String::new() } else { format!(", and {more} more") };
    Err(StoreError::Database {
        why: format!("accounts of the earlier gateway in {name} cannot be taken over: {}{more}", problems.join(", ")),
        fix: "nothing was changed; mend or delete these rows of its table users (addresses are compared without case, \
              NFKC-normalised), then start again"
            .to_owned(),
    })
}

/// Whether some log-in could verify a hash of this kind.
fn is_known(hash: &str) -> bool {
    ["$2a$", "$2b$", "$2y$", "$argon2id$"].iter().any(|kind| hash.starts_with(kind))
}

fn listed(ids: &[i64]) -> String {
    let named: Vec<String> = ids.iter().take(NAMED).map(i64::to_string).collect();
    let more = if ids.len() > NAMED { ", …" } else { "" };
    format!("{}{more}", named.join(", "))
}
