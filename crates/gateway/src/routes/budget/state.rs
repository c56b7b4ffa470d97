//! What one scope may spend, has spent and holds in one period, as answers show it.

use std::time::{SystemTime, UNIX_EPOCH};

use proto::budget::Statement;
use serde::Serialize;
use types::CallContext;

use super::{PeriodName, ScopeName, Whose};
use crate::money::Usd;

/// How near a scope is to its limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Status {
    /// Below 80 %, or without a limit
    Ok,
    /// At 80 % or more
    Warning,
    /// At 95 % or more
    Critical,
    /// At the limit or above
    Exceeded,
}

/// What a scope may spend, has spent and holds in a period, in USD.
#[derive(Debug, Serialize, utoipa::ToSchema)]
#[schema(as = BudgetState)]
pub(crate) struct State {
    #[serde(flatten)]
    of: Whose,
    /// The user, where it is one
    #[serde(skip_serializing_if = "Option::is_none")]
    user_id: Option<String>,
    period: PeriodName,
    /// Null when there is none
    #[schema(value_type = Option<f64>)]
    limit: Option<Usd>,
    /// Settled
    #[schema(value_type = f64)]
    current_spend: Usd,
    /// Reserved and not yet settled
    #[schema(value_type = f64)]
    held: Usd,
    /// What the limit leaves
    #[schema(value_type = Option<f64>)]
    remaining: Option<Usd>,
    /// Which part of the limit is spent or held
    utilization: Option<f64>,
    status: Status,
    /// What will be spent by the period's end if it goes on so; null for the total, and as long as less
    /// than a hundredth of the period has passed
    #[schema(value_type = Option<f64>)]
    projected_spend: Option<Usd>,
    /// When the period began, in milliseconds since 1970
    starts_at_ms: i64,
    /// When the period ends, in milliseconds since 1970; null for the total
    resets_at_ms: Option<i64>,
}

impl State {
    /// Shows a statement of the caller's tenant.
    pub(crate) fn of(context: &CallContext, statement: &Statement) -> Self {
        let of = Whose::of(context, &statement.scope.clone().unwrap_or_default());
        let used = statement.spent_nanos.saturating_add(statement.held_nanos);
        let (utilization, status) = near(statement.limit_nanos, used);
        let user_id = (of.scope == ScopeName::User).then(|| of.id.clone());
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let now = i64::try_from(now.as_millis()).unwrap_or(i64::MAX);
        Self {
            of,
            user_id,
            period: PeriodName::of(statement.period()),
            limit: statement.limit_nanos.map(Usd::of),
            current_spend: Usd::of(statement.spent_nanos),
            held: Usd::of(statement.held_nanos),
            remaining: statement
                .limit_nanos
                .map(|limit| Usd::of(limit.saturating_sub(used).max(0))),
            utilization,
            status,
            projected_spend: projected(statement, now).map(Usd::of),
            starts_at_ms: statement.starts_at_ms,
            resets_at_ms: (statement.resets_at_ms != 0).then_some(statement.resets_at_ms),
        }
    }

    /// Returns how near it is to its limit.
    pub(crate) fn status(&self) -> Status {
        self.status
    }
}

fn near(limit: Option<i64>, used: i64) -> (Option<f64>, Status) {
    #[allow(clippy::cast_precision_loss, reason = "a share, for display")]
    let share = limit.map(|limit| match limit {
        0 => 1.0,
        limit => used as f64 / limit as f64,
    });
    let status = match share {
        Some(share) if share > 1.0 || (share >= 1.0 && used > 0) => Status::Exceeded,
        Some(share) if share >= 0.95 => Status::Critical,
        Some(share) if share >= 0.8 => Status::Warning,
        _ => Status::Ok,
    };
    (share, status)
}

/// Returns what will be spent by the period's end if it goes on as until now, in nano-USD. Below a
/// hundredth of the period nothing can be said of the rest.
fn projected(statement: &Statement, now_ms: i64) -> Option<i64> {
    let Statement { starts_at_ms, resets_at_ms, spent_nanos, .. } = statement;
    let whole = i128::from(*resets_at_ms) - i128::from(*starts_at_ms);
    let elapsed = i128::from(now_ms) - i128::from(*starts_at_ms);
    if *resets_at_ms == 0 || elapsed * 100 < whole || elapsed <= 0 {
        return None;
    }
    // The period may be over by the time it is shown; what was spent in it stays.
    let projected = i128::from(*spent_nanos) * whole / elapsed.min(whole);
    i64::try_from(projected).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_period_goes_on_as_it_began() {
        let of = |spent_nanos, resets_at_ms, now| {
            let statement =
                Statement { spent_nanos, starts_at_ms: 1000, resets_at_ms, ..Statement::default() };
            projected(&statement, now)
        };
        assert_eq!(of(50, 2000, 1500), Some(100));
        assert_eq!(of(50, 2000, 1009), None, "too early to say");
        assert_eq!(of(1, 2000, 1010), Some(100));
        assert_eq!(of(50, 2000, 5000), Some(50), "it is over");
        assert_eq!(of(50, 2000, 0), None, "a clock that is behind");
        assert_eq!(of(50, 0, 1500), None, "the total has no end");
        assert_eq!(of(i64::MAX, 2000, 1010), None, "more than can be counted");
    }

    #[test]
    fn a_limit_is_told_how_near_it_is() {
        for (limit, used, status) in [
            (None, 7, Status::Ok),
            (Some(100), 79, Status::Ok),
            (Some(100), 80, Status::Warning),
            (Some(100), 95, Status::Critical),
            (Some(100), 100, Status::Exceeded),
            (Some(100), 101, Status::Exceeded),
            (Some(0), 0, Status::Critical),
            (Some(0), 1, Status::Exceeded),
        ] {
            assert_eq!(near(limit, used).1, status, "{limit:?} {used}");
        }
    }
}
