//! Invariants I1 to I7 of `optimus.lua`, checked on the lines that Redis holds.

use std::collections::{BTreeMap, BTreeSet};

pub(crate) fn check(lines: &[String], context: &str) {
    let rows: Vec<Vec<&str>> = lines.iter().map(|line| line.split(' ').collect()).collect();
    let of = |kind: &str| {
        rows.iter().filter(move |row| row[0] == kind).map(|row| &row[1..]).collect::<Vec<_>>()
    };
    let places = each_in_one_place(&of, context);

    let messages: BTreeSet<&str> = of("message").iter().map(|row| row[0]).collect();
    assert_eq!(messages, places, "I1, messages and places, after {context}");
    for row in of("done").into_iter().chain(of("disowned")) {
        assert!(!places.contains(row[0]), "I2, {} is done and somewhere, after {context}", row[0]);
    }
    each_lot_listed_once(&of, context);
    each_order_has_its_message(&of, &places, context);
    let committed: BTreeSet<(&str, &str)> = of("mail").iter().map(|row| (row[0], row[2])).collect();
    for row in of("deferred") {
        assert!(
            committed.contains(&(row[0], row[1])),
            "I5, {} is deferred and not committed, after {context}",
            row[1]
        );
    }
}

/// Returns the ids in lots, committed, held or quarantine. Each must be there once.
fn each_in_one_place<'a>(
    of: &impl Fn(&str) -> Vec<&'a [&'a str]>,
    context: &str,
) -> BTreeSet<&'a str> {
    let mut places = BTreeSet::new();
    let lots = of("in").into_iter().map(|row| row[1]);
    let mail = of("mail").into_iter().map(|row| row[2]);
    let quarantine = of("quarantine").into_iter().map(|row| row[0]);
    let held = of("held").into_iter().map(|row| row[0]);
    for id in lots.chain(mail).chain(quarantine).chain(held) {
        assert!(places.insert(id), "I1, {id} is in two places, after {context}");
    }
    places
}

fn each_order_has_its_message<'a>(
    of: &impl Fn(&str) -> Vec<&'a [&'a str]>,
    places: &BTreeSet<&str>,
    context: &str,
) {
    let inbox: BTreeSet<&str> = of("inbox").iter().map(|row| row[0]).collect();
    for row in of("inbox-order") {
        let is_only_there = inbox.contains(row[0]) && !places.contains(row[0]);
        assert!(is_only_there, "I7, {} is ordered and not in the inbox, after {context}", row[0]);
    }
    let mail: BTreeSet<(&str, &str)> = of("mail").iter().map(|row| (row[0], row[2])).collect();
    for row in of("node-order") {
        let is_there = mail.contains(&(row[0], row[1]));
        assert!(is_there, "I7, {} is ordered and not committed, after {context}", row[1]);
    }
}

fn each_lot_listed_once<'a>(of: &impl Fn(&str) -> Vec<&'a [&'a str]>, context: &str) {
    let filled: BTreeSet<&str> = of("in").iter().map(|row| row[0]).collect();
    let mut listed: BTreeMap<&str, (&str, Option<&str>)> = BTreeMap::new();
    for state in ["ready", "assigned", "parked"] {
        for row in of(state) {
            let before = listed.insert(row[0], (state, row.get(1).copied()));
            assert_eq!(before, None, "I3, lot {} is listed twice, after {context}", row[0]);
        }
    }
    let described: BTreeMap<&str, (&str, Option<&str>)> =
        of("lot").iter().map(|row| (row[0], (row[1], row.get(3).copied()))).collect();
    assert_eq!(described, listed, "I3, lots and lists, after {context}");
    let lanes: BTreeSet<&str> = of("lane").iter().map(|row| row[0]).collect();
    let used: BTreeSet<&str> = of("parked").iter().map(|row| row[1]).collect();
    assert_eq!(lanes, used, "I3, lanes and parked lots, after {context}");
    assert_eq!(
        described.keys().copied().collect::<BTreeSet<_>>(),
        filled,
        "I3, an empty lot, after {context}"
    );
}
