//! `postgres` and `mysql`: takes the rows of an agency's table (前置机数据库), new ones and changed
//! ones. A message is a page of rows as lines of JSON; the position after it is committed with it.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::stream;
use serde_json::Value;
use xinqiao_core::fault::{Blame, Retry};
use xinqiao_core::spi::{
    Arrival, BoxFuture, Fault, FeedbackRoad, ParamProblem, Secrets, Source, SourceContext,
    SourceFactory,
};

use super::{SourceFault, pause, wait_after};
use crate::wire::db::{Class, DbError, Engine, Purpose, Session};

mod ack;
mod config;
mod feedback;
mod full;
mod page;
mod position;

use ack::row_digest;
use config::{Database, Way};
use page::{Part, Plan, Taken};
use position::{Mark, Position};

/// The kind `postgres`; its parameters are described in `database/config.rs`.
pub(super) struct Postgres;

/// The kind `mysql`; the same parameters.
pub(super) struct MySql;

impl SourceFactory for Postgres {
    fn kind(&self) -> &'static str {
        "postgres"
    }

    fn build(
        &self,
        params: &Value,
        secrets: &dyn Secrets,
    ) -> Result<Arc<dyn Source>, Vec<ParamProblem>> {
        Ok(Arc::new(Database::from_params(Engine::Postgres, params, secrets)?))
    }
}

impl SourceFactory for MySql {
    fn kind(&self) -> &'static str {
        "mysql"
    }

    fn build(
        &self,
        params: &Value,
        secrets: &dyn Secrets,
    ) -> Result<Arc<dyn Source>, Vec<ParamProblem>> {
        Ok(Arc::new(Database::from_params(Engine::MySql, params, secrets)?))
    }
}

impl Source for Database {
    fn run(self: Arc<Self>, context: SourceContext) -> BoxFuture<'static, ()> {
        Box::pin(async move {
            let mut position = None;
            let mut attempt = 0;
            while !context.shutdown.has_begun() {
                let wait = match self.round(&context, &mut position).await {
                    Ok(told) => {
                        if let Some(fault) = &told {
                            context.inbox.progress(Err(fault));
                        }
                        attempt = 0;
                        self.poll
                    }
                    Err(fault) => {
                        context.inbox.progress(Err(fault.as_ref()));
                        attempt += 1;
                        wait_after(attempt, fault.retry(), self.poll, &context)
                    }
                };
                pause(wait, &context.shutdown).await;
            }
        })
    }

    fn feedback(&self) -> Option<FeedbackRoad> {
        self.feedback.clone().map(|feedback| FeedbackRoad::Rows(feedback))
    }

    fn keeps_order(&self) -> bool {
        true
    }
}

impl Database {
    /// One look at the table, until there is nothing more for now. Gives what is to be told of rows
    /// that held up no others.
    async fn round(
        &self,
        context: &SourceContext,
        position: &mut Option<Position>,
    ) -> Result<Option<SourceFault>, Fault> {
        // After a fault what is durable decides, not what is in memory.
        let mut at = match position.take() {
            Some(at) => at,
            None => {
                let cursor = context.inbox.cursor().await?;
                Position::decode(cursor.as_deref().unwrap_or_default(), &self.fingerprint())
            }
        };
        let opened = async {
            let mut session =
                self.access.open(Purpose::Read).await.map_err(|error| self.told(error))?;
            let plan = self.plan(session.as_mut()).await?;
            Ok((session, plan))
        };
        let Some((mut session, plan)) = stoppable(context, opened).await? else { return Ok(None) };
        self.settle(context, &plan, &mut at).await?;
        at.after = at.after.filter(|after| plan.orders(after));
        let left_out = self.left_out(session.as_mut(), &plan, at.after.as_deref());
        let Some(left_out) = stoppable(context, left_out).await? else { return Ok(None) };
        let (session, mut told) = (session.as_mut(), Told { left_out, ..Told::default() });
        let mut count = 0;
        if matches!(self.way, Way::Full { .. } | Way::Ordered { lag: Some(_), .. }) {
            count += self.compare(context, session, &plan, &mut at, &mut told).await?;
        }
        if matches!(self.way, Way::Ordered { .. } | Way::Queue { .. }) {
            count += self.follow(context, session, &plan, &mut at, &mut told).await?;
        }
        *position = Some(at);
        let text = match count {
            0 => "没有新数据".to_owned(),
            count => format!("本轮接收{count}行"),
        };
        context.inbox.progress(Ok(&text));
        Ok(told.left_out.or_else(|| {
            let (limit, column) = (self.cell_bytes, told.too_large?);
            let text = format!(
                "表 {} 的列 {column} 有的格超过{limit}字节,没有取这些格,所在的行会退回:请委办局核对,或加大参数 cell-bytes",
                self.table.shown
            );
            Some(fault("source.too-large", Blame::Agency, text))
        }))
    }

    /// Pages of the ways whose rows follow each other.
    async fn follow(
        &self,
        context: &SourceContext,
        session: &mut dyn Session,
        plan: &Plan,
        at: &mut Position,
        told: &mut Told,
    ) -> Result<u64, Fault> {
        let before = match &self.way {
            Way::Ordered { lag: Some(lag), .. } => {
                let settled = self.settled(session, i64::try_from(*lag).unwrap_or(i64::MAX));
                match stoppable(context, settled).await? {
                    Some(moment) => Some(moment),
                    None => return Ok(0),
                }
            }
            // What `ack` has not changed is still there.
            Way::Queue { .. } => {
                at.after = None;
                None
            }
            _ => None,
        };
        let part = before.as_deref().map_or(Part::Whole, Part::Before);
        let mut count = 0;
        while !context.shutdown.has_begun() && count < self.round_rows {
            let (mut body, mut marks) = (Vec::new(), Vec::new());
            let mut take = |row: &Taken<'_>| {
                body.push(b'{');
                body.extend_from_slice(row.line);
                body.extend_from_slice(b"}\n");
                if !self.ack.is_empty() {
                    let key = plan.key.iter().filter_map(|at| row.order.get(*at)).cloned();
                    marks.push(Mark { key: key.collect(), row: row_digest(plan, row.cells) });
                }
            };
            let read = self.read(session, plan, at.after.as_deref(), part, &mut take);
            let Some(read) = stoppable(context, read).await? else { break };
            told.too_large = read.too_large.or(told.too_large.take());
            if read.rows > 0 {
                at.after = read.last;
                self.receive(context, plan, at, body, marks).await?;
                count += u64::try_from(read.rows).unwrap_or(u64::MAX);
                context.inbox.progress(Ok(&format!("已接收{count}行")));
            }
            if !read.more {
                break;
            }
        }
        Ok(count)
    }

    /// Hands a message over, with the position that counts it as taken; then acknowledges it.
    async fn receive(
        &self,
        context: &SourceContext,
        plan: &Plan,
        at: &mut Position,
        body: Vec<u8>,
        marks: Vec<Mark>,
    ) -> Result<(), Fault> {
        if !self.ack.is_empty() {
            at.pending = marks;
        }
        let arrival = Arrival {
            name: Some(self.table.shown.clone()),
            body: Box::pin(stream::iter([Ok(Bytes::from(body))])),
            cursor: Some(at.encode(&self.fingerprint())),
        };
        context.inbox.receive(arrival).await?;
        self.settle(context, plan, at).await
    }

    /// Acknowledges what has a receipt. Until that is done nothing else is taken: the cursor holds
    /// one page of it only.
    async fn settle(
        &self,
        context: &SourceContext,
        plan: &Plan,
        at: &mut Position,
    ) -> Result<(), Fault> {
        if at.pending.is_empty() || self.ack.is_empty() {
            return Ok(());
        }
        let work = async {
            let session = self.access.open(Purpose::Write).await;
            let mut session = session.map_err(|error| self.told(error))?;
            self.acknowledge(session.as_mut(), plan, &at.pending).await.map_err(|mut fault| {
                fault.text = format!("已接收,但回写(ack)未成:{}", fault.text);
                fault
            })
        };
        if stoppable(context, work).await?.is_some() {
            at.pending.clear();
        }
        Ok(())
    }

    /// What a database's error means to whoever reads it.
    fn told(&self, error: DbError) -> SourceFault {
        db_fault(error, &self.table.shown, "table", |column| self.parameter_of(column))
    }

    fn no_column(&self, column: &str) -> SourceFault {
        let parameter = self.parameter_of(column).unwrap_or("columns");
        let text = format!(
            "表 {} 中没有列 {column}(PostgreSQL 区分大小写),请检查参数 {parameter}",
            self.table.shown
        );
        fault("source.no-column", Blame::Operator, text)
    }
}

/// What a round has to tell, though it went well.
#[derive(Default)]
struct Told {
    /// Rows that no order reaches.
    left_out: Option<SourceFault>,
    /// A column that had a cell which was left out.
    too_large: Option<String>,
}

/// Does something that may be cut short when stopping begins: nothing has been taken yet.
async fn stoppable<T>(
    context: &SourceContext,
    work: impl Future<Output = Result<T, SourceFault>>,
) -> Result<Option<T>, Fault> {
    let begun = context.shutdown.begun();
    if context.shutdown.has_begun() {
        return Ok(None);
    }
    tokio::select! {
        done = work => Ok(Some(done?)),
        () = begun => Ok(None),
    }
}

impl From<SourceFault> for Fault {
    fn from(fault: SourceFault) -> Self {
        Box::new(fault)
    }
}

fn fault(code: &'static str, blame: Blame, text: String) -> SourceFault {
    SourceFault { code, blame, retry: Retry::Backoff, text }
}

/// Names the parameter that is to be looked at.
fn db_fault(
    error: DbError,
    table: &str,
    table_parameter: &str,
    parameter_of: impl Fn(&str) -> Option<&'static str>,
) -> SourceFault {
    let (code, blame, hint) = match &error {
        DbError::Unreachable(_) => {
            ("source.unreachable", Blame::Agency, "请检查参数 host、port 和网络".to_owned())
        }
        DbError::Tls(_) => ("source.unreachable", Blame::Operator, "请检查参数 ca".to_owned()),
        DbError::Broken(_) => ("source.broken-answer", Blame::Agency, String::new()),
        DbError::Slow(_) => (
            "source.slow",
            Blame::Agency,
            "请为排序所用的列建索引,或加大参数 timeout-seconds".to_owned(),
        ),
        DbError::TooLarge(_) => ("source.too-large", Blame::Agency, String::new()),
        DbError::Server { class, text, .. } => match class {
            Class::Denied => (
                "source.denied",
                Blame::Operator,
                format!("请检查参数 user、password,以及该账号对表 {table} 的权限"),
            ),
            Class::NoDatabase => {
                ("source.no-database", Blame::Operator, "请检查参数 database".to_owned())
            }
            Class::NoTable => (
                "source.no-table",
                Blame::Operator,
                format!("没有表 {table},请检查参数 {table_parameter}"),
            ),
            Class::NoColumn => {
                // A message of this class quotes the column's name.
                let quoted = text.as_deref().unwrap_or_default();
                let words = quoted.split(['\'', '"', ' ', '.', '`']);
                let parameter = words.filter(|word| !word.is_empty()).find_map(&parameter_of);
                let parameter = parameter.unwrap_or("columns、where");
                ("source.no-column", Blame::Operator, format!("请检查参数 {parameter}"))
            }
            Class::Busy => ("source.busy", Blame::Agency, "稍后再试".to_owned()),
            Class::Row | Class::Other => {
                ("source.odd-answer", Blame::Operator, "请检查参数 where 和各列的类型".to_owned())
            }
        },
    };
    let gap = if hint.is_empty() { "" } else { ";" };
    fault(code, blame, format!("{error}{gap}{hint}"))
}
