//! Which column of the earlier gateway's `users` holds what. Its versions differ: columns may be missing, have
//! another name or another type.

use std::collections::HashMap;

use tokio_postgres::Transaction;

use super::super::StoreError;

/// Expressions that read the table, each of a known type.
#[derive(Debug)]
pub(super) struct Columns {
    /// `id, email, name, hash, role, active, created_ms` as `bigint, text, text, text, text, text, bigint`.
    pub(super) select: String,
    /// Whether a column tells who may log in.
    pub(super) has_active: bool,
}

impl Columns {
    /// Looks at the table `users` of the current schema; `None`: there is none. `name` is the database, for messages.
    pub(super) async fn find(transaction: &Transaction<'_>, name: &str) -> Result<Option<Columns>, StoreError> {
        let sql = "SELECT a.attname::text, t.typcategory::text, format_type(a.atttypid, NULL)
             FROM pg_attribute a
             JOIN pg_class c ON c.oid = a.attrelid
             JOIN pg_namespace n ON n.oid = c.relnamespace
             JOIN pg_type t ON t.oid = a.atttypid
             WHERE n.nspname = current_schema() AND c.relname = 'users' AND c.relkind IN ('r', 'p')
                 AND a.attnum > 0 AND NOT a.attisdropped";
        let rows = transaction.query(sql, &[]).await?;
        if rows.is_empty() {
            return Ok(None);
        }
        let types: HashMap<String, (String, String)> =
            rows.iter().map(|row| (row.get(0), (row.get(1), row.get(2)))).collect();
        Columns::from_types(&types, name).map(Some)
    }

    fn from_types(types: &HashMap<String, (String, String)>, name: &str) -> Result<Columns, StoreError> {
        let first = |names: &[&'static str]| names.iter().find(|name| types.contains_key(**name)).copied();
        let foreign = |what: &str| StoreError::Database {
            why: format!("{name} has a table `users` that is not the earlier gateway's: {what}"),
            fix: "give the gateway a database of its own, or a schema (options=-csearch_path%3Dssm)".to_owned(),
        };
        let is_integer = |kind: &str| matches!(kind, "smallint" | "integer" | "bigint");
        if !types.get("id").is_some_and(|(_, kind)| is_integer(kind)) {
            return Err(foreign("its id is no whole number"));
        }
        let email = first(&["email"]).ok_or_else(|| foreign("it has no column email"))?;
        let hash = first(&["hashed_password", "password_hash"])
            .ok_or_else(|| foreign("it has no column hashed_password or password_hash"))?;
        let text = |column: Option<&str>| column.map_or("NULL".to_owned(), |column| format!("{column}::text"));
        // Times without a zone are UTC, as SQLAlchemy's defaults make them.
        let created = match types.get("created_at") {
            Some((category, _)) if category == "D" => "(extract(epoch FROM created_at) * 1000)::bigint",
            _ => "NULL::bigint",
        };
        let active = first(&["is_active", "active"]);
        let select = format!(
            "id::bigint, {email}::text, {}, {hash}::text, {}, {}, {created}",
            text(first(&["full_name", "name"])),
            text(first(&["role"])),
            text(active),
        );
        Ok(Columns { select, has_active: active.is_some() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn columns(types: &[(&str, &str, &str)]) -> Result<Columns, StoreError> {
        let types = types
            .iter()
            .map(|(name, category, kind)| ((*name).to_owned(), ((*category).to_owned(), (*kind).to_owned())))
            .collect();
        Columns::from_types(&types, "h/d")
    }

    #[test]
    fn columns_are_found_by_their_names() {
        let usual = columns(&[
            ("id", "N", "integer"),
            ("email", "S", "character varying"),
            ("full_name", "S", "character varying"),
            ("hashed_password", "S", "character varying"),
            ("role", "E", "userrole"),
            ("is_active", "B", "boolean"),
            ("created_at", "D", "timestamp without time zone"),
        ])
        .unwrap();
        assert!(usual.has_active && usual.select.contains("role::text") && usual.select.contains("epoch"));
        let bare = columns(&[
            ("id", "N", "bigint"),
            ("email", "S", "text"),
            ("password_hash", "S", "text"),
            ("created_at", "S", "text"),
        ])
        .unwrap();
        assert_eq!(bare.select, "id::bigint, email::text, NULL, password_hash::text, NULL, NULL, NULL::bigint");
        assert!(!bare.has_active);
    }

    #[test]
    fn a_table_of_somebody_else_is_refused() {
        for (types, words) in [
            (&[("id", "U", "uuid"), ("email", "S", "text"), ("password_hash", "S", "text")][..], "whole number"),
            (&[("id", "N", "integer"), ("login", "S", "text"), ("password_hash", "S", "text")][..], "no column email"),
            (&[("id", "N", "integer"), ("email", "S", "text"), ("password", "S", "text")][..], "hashed_password"),
        ] {
            let error = columns(types).unwrap_err().to_string();
            assert!(error.contains(words) && error.contains("h/d") && error.contains("search_path"), "{error}");
        }
    }
}
