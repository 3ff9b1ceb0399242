//! Which columns of a front-end table are the database's own.

use std::collections::BTreeMap;

use super::FrontDbTarget;
use crate::wire::db::{Cell, DbError, Engine, Kind, Query, Session};

impl FrontDbTarget {
    /// Columns that are not ours to copy: the database fills them (a number of its own, a default, a
    /// generated value), or no two rows may have the same.
    pub(super) async fn kept_by_database(
        &self,
        session: &mut dyn Session,
        table: &str,
    ) -> Result<Vec<String>, DbError> {
        let engine = self.access.engine();
        let (text, filled, schemas) = match engine {
            Engine::Postgres => (
                "::text",
                "c.is_identity = 'YES' OR c.is_generated = 'ALWAYS'",
                "ANY (current_schemas(false))",
            ),
            Engine::MySql => {
                ("", "c.extra LIKE '%auto_increment%' OR c.extra LIKE '%GENERATED%'", "DATABASE()")
            }
        };
        let place = |query: &mut Query, of: &str| {
            query.push(&format!(" WHERE {of}.table_name = ")).value(table, Kind::Text);
            query.push(&format!(" AND {of}.table_schema = "));
            match &self.schema {
                Some(schema) => query.value(schema, Kind::Text),
                None => query.push(schemas),
            };
        };
        let mut query = Query::new(
            engine,
            format!("SELECT c.column_name{text} FROM information_schema.columns AS c"),
        );
        place(&mut query, "c");
        // MariaDB writes a missing default as the word.
        query
            .push(" AND (")
            .push(filled)
            .push(" OR (c.column_default IS NOT NULL AND c.column_default NOT LIKE 'NULL%'))");
        let mut kept = Vec::new();
        let mut each = |cells: &[Cell<'_>]| {
            kept.extend(cells.iter().flatten().map(|name| name.to_string()));
            Ok(())
        };
        session.rows(&query, &mut each).await?;
        // A key with a column of ours differs by that.
        let mut query = Query::new(
            engine,
            format!(
                "SELECT k.constraint_name{text}, k.column_name{text} FROM information_schema.key_column_usage AS k \
                 JOIN information_schema.table_constraints AS t ON t.constraint_schema = k.constraint_schema \
                 AND t.constraint_name = k.constraint_name AND t.table_schema = k.table_schema \
                 AND t.table_name = k.table_name"
            ),
        );
        place(&mut query, "k");
        query.push(" AND t.constraint_type IN ('PRIMARY KEY', 'UNIQUE')");
        let mut keys: BTreeMap<String, Vec<String>> = BTreeMap::new();
        let mut each = |cells: &[Cell<'_>]| {
            if let [Some(key), Some(column)] = cells {
                keys.entry(key.to_string()).or_default().push(column.to_string());
            }
            Ok(())
        };
        session.rows(&query, &mut each).await?;
        let ours =
            |column: &String| self.own.names().iter().any(|own| engine.same_name(own, column));
        kept.extend(keys.into_values().filter(|key| !key.iter().any(ours)).flatten());
        Ok(kept)
    }
}
