//! What every ledger keeps to.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use budget::{
    Calls, Correction, Cost, Error, Group, Kind, Ledger, Maintenance, Order, Period, Reservation,
    Scope, Usage, chained,
};
use types::{NanoUsd, TenantId};

use super::{Hands, NOON, hold, id, state, tenant, user};

fn usage(name: &str, who: &str, reservation: &str, cost: i64) -> Usage {
    Usage {
        id: name.to_owned(),
        tenant: "rows".to_owned(),
        payer: who.to_owned(),
        provider: "p".to_owned(),
        model: "m".to_owned(),
        input_tokens: 10,
        output_tokens: 1,
        cost,
        started_at: NOON,
        latency_micros: 40,
        outcome: "answered".to_owned(),
        privacy: "private".to_owned(),
        reservation: reservation.to_owned(),
        ..Usage::default()
    }
}

/// Rows settle what they belong to, once, however often they come.
async fn rows_settle(l: &dyn Ledger) {
    let tenant = TenantId::new("rows").unwrap();
    let held =
        |name: &str, who: &str| Reservation { tenant: tenant.clone(), ..hold(name, who, 50) };
    l.reserve(&held("u1", "u")).await.unwrap();
    l.reserve(&held("u2", "v")).await.unwrap();
    let refused = Usage { outcome: "refused".to_owned(), ..usage("c3", "u", "", 0) };
    let within = |one: Usage, run: &str| Usage {
        team: "t".to_owned(),
        key: "k".to_owned(),
        run: run.to_owned(),
        ..one
    };
    let first = within(usage("c1", "u", "u1", 30), "r");
    let second = within(usage("c2", "v", "u2", 70), "r/1");
    let rows = [Usage { first_token_micros: 20, ..first }, second, refused];
    for _ in 0..2 {
        l.record(&rows).await.unwrap();
    }
    // One that belongs to nothing that is held changes no money.
    l.record(&[usage("c4", "u", "none", 5), usage("c1", "u", "u1", 99)]).await.unwrap();
    for (who, spent) in [("u", 30), ("v", 70)] {
        let state = l.statement(&tenant, &user(who), Period::Daily).await.unwrap();
        assert_eq!((state.spent.nanos(), state.held.nanos()), (spent, 0));
    }

    let groups = [Group::User, Group::Day];
    let calls = |of: &TenantId, scope: Scope, (from_ms, to_ms): (i64, i64)| {
        let tenant = of.clone();
        Calls { tenant, scope, from_ms, to_ms }
    };
    let (all, ever) = (Scope::tenant(), (0, i64::MAX));
    let noon = calls(&tenant, all.clone(), (NOON, NOON + 1));
    let costs = l.costs(&noon, &groups).await.unwrap();
    let cost = |who: &str, calls, failed, cost| Cost {
        group: vec![who.to_owned(), "2026-11-24".to_owned()],
        calls,
        failed,
        input_tokens: 10 * calls,
        output_tokens: calls,
        cost,
        mean_latency_micros: 40,
        mean_first_token_micros: if who == "u" { 20 } else { 0 },
    };
    assert_eq!(costs, [cost("v", 1, 0, 70), cost("u", 3, 1, 35)]);
    for (scope, wanted) in [(user("u"), vec![cost("u", 3, 1, 35)]), (user("none"), vec![])] {
        let costs = l.costs(&calls(&tenant, scope, ever), &groups).await.unwrap();
        assert_eq!(costs, wanted);
    }
    for (kind, name, cost) in [
        (Kind::Team, "t", 100),
        (Kind::Key, "k", 100),
        (Kind::Run, "r", 100),
        (Kind::Run, "r/1", 70),
        (Kind::Run, "r/", 0),
    ] {
        let scope = Scope::new(kind, name).unwrap();
        let costs = l.costs(&calls(&tenant, scope, ever), &[Group::Tier]).await.unwrap();
        let sum: i64 = costs.iter().map(|one| one.cost).sum();
        assert_eq!(sum, cost, "{kind:?} {name}");
    }
    for group in [Group::Model, Group::Provider, Group::Tier, Group::Team, Group::Route, Group::Key]
    {
        let costs = l.costs(&calls(&tenant, all.clone(), ever), &[group]).await.unwrap();
        let sum: i64 = costs.iter().map(|one| one.cost).sum();
        let groups = if matches!(group, Group::Team | Group::Key) { 2 } else { 1 };
        assert_eq!((costs.len(), sum), (groups, 105), "{group:?}");
    }
    let none = TenantId::new("other").unwrap();
    assert_eq!(l.costs(&calls(&none, all, ever), &groups).await.unwrap(), []);

    // The private ones are chained, once each.
    let (first, rest) = (l.audited(&tenant, 0, 1).await, l.audited(&tenant, 1, 100).await);
    let records = [first.unwrap(), rest.unwrap()].concat();
    let mut before = vec![0; 32];
    for (at, one) in records.iter().enumerate() {
        assert_eq!(one.number, i64::try_from(at).unwrap() + 1);
        assert_eq!(one.hash, chained(&before, &one.record));
        before.clone_from(&one.hash);
    }
    assert_eq!(records.len(), 4);
    assert_eq!(l.audited(&none, 0, 10).await.unwrap(), []);
}

/// What comes at once may be written together: it is as if it had come in turn.
async fn what_comes_at_once(l: &dyn Ledger) {
    let usd = NanoUsd::new;
    l.set_limit(&tenant(), &user("m"), Period::Daily, Some(usd(100))).await.unwrap();

    // One is refused, and it alone.
    let wanted = [hold("m1", "m", 60), hold("m2", "m", 106), hold("m3", "free", 7)];
    let [first, second, third] = &wanted;
    let (first, second, third) =
        tokio::join!(l.reserve(first), l.reserve(second), l.reserve(third));
    assert!(first.is_ok() && third.is_ok(), "{first:?}, {third:?}");
    assert!(matches!(second, Err(Error::Exceeded { .. })), "{second:?}");

    // The same id twice at once holds once; one of two amounts is a conflict.
    let (same, other) = (hold("m4", "m", 20), hold("m4", "m", 21));
    let (first, second) = tokio::join!(l.reserve(&same), l.reserve(&same));
    assert_eq!(first.unwrap(), second.unwrap());
    assert!(matches!(l.reserve(&other).await, Err(Error::Conflict { .. })));
    assert_eq!(state(l, "m", Period::Daily).await, (0, 80));

    // Of a release and a reserve of one id, and of two settlements, one is first and nothing is lost.
    let (tenant, one) = (tenant(), id("m5"));
    let late = hold("m5", "m", 1);
    let (_, released) = tokio::join!(l.reserve(&late), l.release(&tenant, &one));
    released.unwrap();
    let (same, other) = (id("m1"), id("m4"));
    let (first, second, third) = tokio::join!(
        l.settle(&tenant, &same, usd(50)),
        l.settle(&tenant, &same, usd(50)),
        l.settle(&tenant, &other, usd(5)),
    );
    first.and(second).and(third).unwrap();
    assert_eq!(state(l, "m", Period::Daily).await, (55, 0));
    l.release(&tenant, &id("m3")).await.unwrap();
}

pub(crate) async fn contract(ledger: Arc<dyn Ledger>, clock: &Hands) {
    rows_settle(ledger.as_ref()).await;
    what_comes_at_once(ledger.as_ref()).await;
    let l = ledger.as_ref();
    let usd = NanoUsd::new;

    // A repeat takes nothing; another amount under the same id is a conflict.
    l.set_limit(&tenant(), &user("a"), Period::Daily, Some(usd(100))).await.unwrap();
    let first = l.reserve(&hold("a1", "a", 60)).await.unwrap();
    assert_eq!(l.reserve(&hold("a1", "a", 60)).await.unwrap(), first);
    assert!(matches!(l.reserve(&hold("a1", "a", 61)).await, Err(Error::Conflict { .. })));
    assert_eq!(state(l, "a", Period::Daily).await, (0, 60));

    // A refusal names every number and changes nothing.
    let refused = l.reserve(&hold("a2", "a", 46)).await;
    assert!(
        matches!(&refused, Err(Error::Exceeded { limit, spent, held, needed, .. })
            if (*limit, *spent, *held, *needed) == (usd(100), usd(0), usd(60), usd(46))),
        "{refused:?}"
    );
    l.reserve(&hold("a3", "a", 40)).await.unwrap();

    // More or less than reserved is settled as it is, once.
    l.settle(&tenant(), &id("a1"), usd(10)).await.unwrap();
    l.settle(&tenant(), &id("a1"), usd(10)).await.unwrap();
    assert!(matches!(l.settle(&tenant(), &id("a1"), usd(11)).await, Err(Error::Conflict { .. })));
    l.settle(&tenant(), &id("a3"), usd(70)).await.unwrap();
    assert_eq!(state(l, "a", Period::Daily).await, (80, 0));
    assert!(matches!(l.settle(&tenant(), &id("none"), usd(1)).await, Err(Error::Unknown(_))));

    // A release gives back; one that came before its reserve keeps it from holding.
    l.reserve(&hold("a4", "a", 20)).await.unwrap();
    for _ in 0..2 {
        l.release(&tenant(), &id("a4")).await.unwrap();
    }
    l.release(&tenant(), &id("late")).await.unwrap();
    assert!(matches!(l.reserve(&hold("late", "a", 1)).await, Err(Error::Conflict { .. })));
    let settled = l.release(&tenant(), &id("a1")).await;
    assert!(matches!(settled, Err(Error::Conflict { .. })));
    assert_eq!(state(l, "a", Period::Total).await, (80, 0));

    // A lease ends by itself, swept or not; what was spent all the same is booked.
    l.reserve(&hold("a5", "a", 20)).await.unwrap();
    clock.0.fetch_add(1000, Ordering::SeqCst);
    assert_eq!(state(l, "a", Period::Daily).await, (80, 0));
    l.reserve(&hold("a6", "a", 20)).await.unwrap();
    l.settle(&tenant(), &id("a5"), usd(5)).await.unwrap();
    assert_eq!(state(l, "a", Period::Daily).await, (85, 20));

    l.reserve(&hold("s", "swept", 1)).await.unwrap();
    clock.0.fetch_add(1000, Ordering::SeqCst);
    assert!(l.expire().await.unwrap() >= 1);
    assert_eq!(l.expire().await.unwrap(), 0);

    // A repeat that comes in time lengthens a hold; one that asks for less, or comes late, does not.
    let first = l.reserve(&hold("long", "lasting", 7)).await.unwrap();
    clock.0.fetch_add(900, Ordering::SeqCst);
    assert_eq!(l.reserve(&hold("long", "lasting", 7)).await.unwrap(), first + 900);
    let short = Reservation { ttl_ms: 1, ..hold("long", "lasting", 7) };
    assert_eq!(l.reserve(&short).await.unwrap(), first + 900);
    clock.0.fetch_add(900, Ordering::SeqCst);
    assert_eq!(state(l, "lasting", Period::Total).await, (0, 7), "once, and still");
    clock.0.fetch_add(100, Ordering::SeqCst);
    let late = l.reserve(&hold("long", "lasting", 7)).await;
    assert!(matches!(late, Err(Error::Conflict { .. })), "what is over stays over: {late:?}");
    assert_eq!(state(l, "lasting", Period::Total).await, (0, 0));

    // The next day is a new one; the week goes on.
    clock.0.fetch_add(24 * 3_600_000, Ordering::SeqCst);
    assert_eq!(state(l, "a", Period::Daily).await, (0, 0));
    assert_eq!(state(l, "a", Period::Weekly).await.0, 85);
    // What was reserved yesterday is settled into yesterday.
    l.settle(&tenant(), &id("a6"), usd(20)).await.unwrap();
    assert_eq!(state(l, "a", Period::Daily).await, (0, 0));
    assert_eq!(state(l, "a", Period::Weekly).await, (105, 0));

    // Another tenant's user of the same name is somebody else.
    let other = TenantId::new("other").unwrap();
    let state_there = l.statement(&other, &user("a"), Period::Total).await.unwrap();
    assert_eq!((state_there.spent, state_there.limit), (NanoUsd::ZERO, None));
    assert!(matches!(l.settle(&other, &id("a6"), usd(20)).await, Err(Error::Unknown(_))));

    // Ten at once on $0.01 at $0.004 each: two.
    l.set_limit(&tenant(), &user("b"), Period::Daily, Some(usd(10_000_000))).await.unwrap();
    let many = (0..10).map(|n| {
        let ledger = Arc::clone(&ledger);
        tokio::spawn(async move { ledger.reserve(&hold(&format!("b{n}"), "b", 4_000_000)).await })
    });
    let mut held = 0;
    for one in many.collect::<Vec<_>>() {
        match one.await.unwrap() {
            Ok(_) => held += 1,
            Err(Error::Exceeded { .. }) => {}
            Err(other) => panic!("{other}"),
        }
    }
    assert_eq!(held, 2);
    assert_eq!(state(l, "b", Period::Daily).await, (0, 8_000_000));

    // Most spent first.
    l.reserve(&hold("c1", "c", 500)).await.unwrap();
    l.settle(&tenant(), &id("c1"), usd(500)).await.unwrap();
    let top = l.statements(&tenant(), Kind::User, Period::Total, Order::Spent, 10).await.unwrap();
    let top: Vec<_> = top.iter().map(|s| (s.scope.name(), s.spent.nanos())).collect();
    assert_eq!(top, [("c", 500), ("a", 105), ("m", 55)]);

    scopes_form_a_chain(l).await;
    a_scope_begins_with_its_default(l, clock).await;
    corrections_are_lines_of_their_own(l).await;
    alerts_are_told_once(l, clock).await;
    maintenance_is_what_was_said_last(l).await;
    // Whatever was done, what is kept is the sum of the history.
    for of in [tenant(), TenantId::new("rows").unwrap(), TenantId::new("chain").unwrap()] {
        assert_eq!(l.verify(&of).await.unwrap(), Vec::<String>::new(), "{of}");
    }
}

/// What one scope's limit does not cover is held in none.
async fn scopes_form_a_chain(l: &dyn Ledger) {
    let (tenant, usd) = (TenantId::new("chain").unwrap(), NanoUsd::new);
    let scope = |kind, name: &str| Scope::new(kind, name).unwrap();
    let chain = [Scope::tenant(), scope(Kind::Team, "x"), user("a"), scope(Kind::Run, "r")];
    let hold = |name: &str, scopes: &[Scope], amount| Reservation {
        tenant: tenant.clone(),
        scopes: scopes.to_vec(),
        ..hold(name, "a", amount)
    };
    l.set_limit(&tenant, &chain[1], Period::Weekly, Some(usd(100))).await.unwrap();
    l.set_limit(&tenant, &chain[3], Period::Total, Some(usd(30))).await.unwrap();
    let refused = l.reserve(&hold("1", &chain, 32)).await;
    let by_run = |fault: &Error| matches!(fault, Error::Exceeded { scope, period: Period::Total, .. } if *scope == chain[3]);
    assert!(refused.as_ref().is_err_and(by_run), "{refused:?}");
    l.reserve(&hold("2", &chain, 30)).await.unwrap();
    l.reserve(&hold("3", &chain[..3], 70)).await.unwrap();
    let refused = l.reserve(&hold("4", &chain[..2], 6)).await;
    assert!(matches!(refused, Err(Error::Exceeded { ref scope, .. }) if *scope == chain[1]));
    l.settle(&tenant, &id("3"), usd(20)).await.unwrap();
    for (scope, spent, held) in
        [(0, 20, 30), (1, 20, 30), (2, 20, 30), (3, 0, 30)].map(|(at, s, h)| (&chain[at], s, h))
    {
        for period in Period::ALL {
            let state = l.statement(&tenant, scope, period).await.unwrap();
            assert_eq!((state.spent, state.held), (usd(spent), usd(held)), "{scope}");
        }
    }
    // Taken away, it limits nothing; one below what is spent is kept, and refuses.
    l.set_limit(&tenant, &chain[3], Period::Total, None).await.unwrap();
    l.reserve(&hold("5", &chain, 50)).await.unwrap();
    l.set_limit(&tenant, &chain[1], Period::Weekly, Some(usd(1))).await.unwrap();
    assert!(matches!(l.reserve(&hold("6", &chain, 0)).await, Err(Error::Exceeded { .. })));
    let used = l.statements(&tenant, Kind::Team, Period::Weekly, Order::Used, 10).await.unwrap();
    assert_eq!((used.len(), used[0].limit, used[0].held), (1, Some(usd(1)), usd(80)));
    let none = l.statements(&tenant, Kind::Team, Period::Daily, Order::Used, 10).await.unwrap();
    assert_eq!(none, []);
}

/// Who was never seen has what the operator says, from the first call on.
async fn a_scope_begins_with_its_default(l: &dyn Ledger, clock: &Hands) {
    let key = Scope::new(Kind::Key, "new").unwrap();
    let wanted =
        |name: &str, amount| Reservation { scopes: vec![key.clone()], ..hold(name, "x", amount) };
    let before = l.statement(&tenant(), &key, Period::Daily).await.unwrap();
    assert_eq!(before.limit, Some(NanoUsd::new(1000)));
    // With 5 % of grace.
    assert!(matches!(l.reserve(&wanted("n1", 1051)).await, Err(Error::Exceeded { .. })));
    l.reserve(&wanted("n2", 1050)).await.unwrap();
    // Its other periods have none; and tomorrow is another day.
    assert_eq!(l.statement(&tenant(), &key, Period::Weekly).await.unwrap().limit, None);
    clock.0.fetch_add(24 * 3_600_000, Ordering::SeqCst);
    l.reserve(&wanted("n3", 1050)).await.unwrap();
}

async fn corrections_are_lines_of_their_own(l: &dyn Ledger) {
    let correction = |name: &str, nanos| Correction {
        id: id(name),
        tenant: tenant(),
        scopes: vec![Scope::tenant(), user("corrected")],
        amount: NanoUsd::new(nanos),
        reason: "the provider's bill".to_owned(),
        author: "finance".to_owned(),
    };
    for _ in 0..2 {
        l.correct(&correction("k1", 90)).await.unwrap();
    }
    l.correct(&correction("k2", -40)).await.unwrap();
    assert!(matches!(l.correct(&correction("k1", 91)).await, Err(Error::Conflict { .. })));
    assert!(matches!(l.correct(&correction("k3", -51)).await, Err(Error::Invalid(_))));
    assert_eq!(state(l, "corrected", Period::Monthly).await, (50, 0));
    let (mut after, mut lines) = (0, Vec::new());
    loop {
        let page = l.history(&tenant(), after, 7).await.unwrap();
        let Some(last) = page.last() else { break };
        assert!(last.number > after);
        after = last.number;
        lines.extend(page);
    }
    let corrected = lines.iter().filter(|line| line.kind == "correct");
    let corrected: Vec<_> =
        corrected.map(|line| (line.spent, line.reason.as_str(), line.author.as_str())).collect();
    assert_eq!(corrected, [90, -40].map(|spent| (spent, "the provider's bill", "finance")));
}

/// A share of a limit that is spent is told once, and again until somebody has heard it.
async fn alerts_are_told_once(l: &dyn Ledger, clock: &Hands) {
    let told = async |limit| -> Vec<(String, u8, i64)> {
        let alerts = l.alerts(limit).await.unwrap();
        let ours = alerts.iter().filter(|alert| alert.scope.name() == "told");
        ours.map(|one| (one.period.as_str().to_owned(), one.percent, one.attempts)).collect()
    };
    // Those of before are nobody's here.
    for alert in l.alerts(100).await.unwrap() {
        l.told(&alert).await.unwrap();
    }
    let spend = async |name: &str, nanos: i64| {
        l.reserve(&hold(name, "told", nanos)).await.unwrap();
        l.settle(&tenant(), &id(name), NanoUsd::new(nanos)).await.unwrap();
    };
    let day = Period::Daily;
    l.set_limit(&tenant(), &user("told"), day, Some(NanoUsd::new(100))).await.unwrap();
    spend("t1", 79).await;
    assert_eq!(told(100).await, []);
    spend("t2", 12).await;
    let one = |percent, attempts| ("daily".to_owned(), percent, attempts);
    assert_eq!(told(100).await, [one(80, 1), one(90, 1)]);
    // Whoever has them is the only one for a while.
    assert_eq!(told(100).await, []);
    clock.0.fetch_add(10_000, Ordering::SeqCst);
    let again = l.alerts(100).await.unwrap();
    assert_eq!(again.iter().map(|one| one.attempts).collect::<Vec<_>>(), [2, 2]);
    for alert in &again {
        l.told(alert).await.unwrap();
    }
    clock.0.fetch_add(3_600_000, Ordering::SeqCst);
    assert_eq!(told(100).await, []);
    // More of the same share is not told again; a limit that is lowered is.
    spend("t3", 1).await;
    assert_eq!(told(100).await, []);
    l.set_limit(&tenant(), &user("told"), day, Some(NanoUsd::new(92))).await.unwrap();
    assert_eq!(told(100).await, [one(95, 1)]);
    // The next day has its own.
    clock.0.fetch_add(24 * 3_600_000, Ordering::SeqCst);
    for alert in l.alerts(100).await.unwrap() {
        l.told(&alert).await.unwrap();
    }
    spend("t4", 80).await;
    assert_eq!(told(100).await, [one(80, 1)]);
}

async fn maintenance_is_what_was_said_last(l: &dyn Ledger) {
    assert_eq!(l.maintenance().await.unwrap(), None);
    for message in ["first", "second"] {
        let wanted =
            Maintenance { message: message.to_owned(), retry_after_s: 7, since_ms: l.now_ms() };
        l.set_maintenance(Some(&wanted)).await.unwrap();
        assert_eq!(l.maintenance().await.unwrap(), Some(wanted));
    }
    l.set_maintenance(None).await.unwrap();
    assert_eq!(l.maintenance().await.unwrap(), None);
}
