//! Exit statuses of `optimus delete`, `hold`, `release` and `requeue`, as optimus(1) has them.

use std::process::Output;

use spool::keys;

use super::common::{Plan, Platform};

const PAGE: &str = include_str!("../../../docs/man/optimus.1.in");
const ACTS: [&str; 4] = ["delete", "hold", "release", "requeue"];
const NOBODYS: &str = "01ARZ3NDEKTSV4RRFFQ69G5FAV";
/// Number of messages: more than all kinds use.
const MESSAGES: usize = 32;

/// Returns the table of the man page: the exit status of each act, by kind of outcome.
fn promised() -> Vec<(String, Vec<i32>)> {
    let is_head = |line: &&str| line.split_whitespace().eq(ACTS);
    let rows = PAGE.lines().skip_while(|line| !is_head(line)).skip(1);
    rows.take_while(|line| !line.starts_with('.'))
        .map(|line| {
            let line = line.replace('\\', "");
            let words: Vec<&str> = line.split_whitespace().collect();
            let (kind, codes) = words.split_at(words.len() - ACTS.len());
            (kind.join(" "), codes.iter().map(|it| it.parse().unwrap()).collect())
        })
        .collect()
}

/// Mail in a lot that no agent takes.
struct Lot {
    platform: Platform,
    ids: Vec<String>,
}

impl Lot {
    fn new() -> Self {
        let mut platform = Plan { redis: true, ..Plan::default() }.start();
        platform.submit(MESSAGES);
        let keys = platform.cut_lots();
        let ids: Vec<_> =
            keys.lines().map(|key| key.rsplit(':').next().unwrap().to_owned()).collect();
        assert_eq!(ids.len(), MESSAGES);
        Self { platform, ids }
    }

    fn run(&self, act: &str, words: &[&str]) -> Output {
        self.platform.command("optimus").arg(act).args(words).output().unwrap()
    }

    fn code(&self, act: &str, words: &[&str]) -> i32 {
        self.run(act, words).status.code().unwrap()
    }

    /// Returns a message that waits.
    fn waiting(&mut self) -> String {
        self.ids.pop().unwrap()
    }

    /// Returns a message that waits, after these acts.
    fn after(&mut self, acts: &[&str]) -> String {
        let id = self.waiting();
        acts.iter().for_each(|act| assert_eq!(self.code(act, &[&id]), 0));
        id
    }

    /// Returns a message for which the act has something to do.
    fn concerned(&mut self, act: &str) -> String {
        match act {
            "delete" | "hold" => self.waiting(),
            _ => self.after(&["hold"]),
        }
    }

    /// Returns the exit status of an act with one kind of outcome.
    fn measured(&mut self, act: &str, kind: &str) -> i32 {
        match kind {
            "all is done" => {
                let id = self.concerned(act);
                self.code(act, &[&id])
            }
            "it was so before" => {
                let id = match act {
                    "delete" | "hold" => self.after(&[act]),
                    _ => self.waiting(),
                };
                self.code(act, &[&id])
            }
            "it was deleted before" => {
                let id = self.after(&["delete"]);
                self.code(act, &[&id])
            }
            "the id is unknown" => {
                let id = self.concerned(act);
                let codes = [self.code(act, &[&id, NOBODYS]), self.code(act, &[NOBODYS])];
                same(&codes)
            }
            "an order is open at a node" => {
                let id = self.at_a_node();
                self.code(act, &[&id])
            }
            "with --dry-run" => self.dry_run(act),
            "no id, or no option's value" => {
                let wrong = [&[][..], &["nonsense"], &["--all", NOBODYS], &["--older-than", "1w"]];
                same(&wrong.map(|words| self.code(act, words)))
            }
            "Redis is away" => {
                let id = self.waiting();
                self.platform.redis.as_mut().unwrap().kill9();
                let all = [&[id.as_str()][..], &["--all"], &["--all", "--dry-run"]];
                let codes = all.map(|words| self.code(act, words));
                self.platform.redis.as_mut().unwrap().restart().unwrap();
                same(&codes)
            }
            other => panic!("{other}: not a kind of this test"),
        }
    }

    /// Returns a message that is committed to a node without agents.
    fn at_a_node(&mut self) -> String {
        let id = self.waiting();
        let call = |words: &[&str]| {
            let function = format!("optimus_{}", words[0]);
            let call = [&["FCALL", &function, "1", keys::SHARD, ""], &words[1..]].concat();
            self.platform.redis_cli(&call)
        };
        // The lot is the node's after the first message.
        call(&["assign", "1", "elsewhere"]);
        let queue_id = format!("4C1B2{:05X}", self.ids.len());
        let answer = call(&["commit", "elsewhere", "1", &id, "1", "1", &queue_id]);
        assert!(answer.starts_with("committed"), "{answer}");
        id
    }

    fn dry_run(&mut self, act: &str) -> i32 {
        let listed =
            |it: &Self| it.platform.command("sendmail").arg("-bp").output().unwrap().stdout;
        let (id, before) = (self.waiting(), listed(self));
        let output = self.run(act, &[&id, "--dry-run"]);
        let text = String::from_utf8(output.stdout).unwrap();
        assert!(text.contains(&format!("would {act} 1 of ")), "{text}");
        assert_eq!(listed(self), before);
        same(&[output.status.code().unwrap(), self.code(act, &[NOBODYS, "--dry-run"])])
    }
}

/// Returns the one exit status of all these.
fn same(codes: &[i32]) -> i32 {
    assert!(codes.iter().all(|it| *it == codes[0]), "{codes:?}");
    codes[0]
}

#[test]
fn each_kind_of_outcome_has_the_exit_status_of_the_man_page() {
    let (mut lot, promised) = (Lot::new(), promised());
    assert_eq!(promised.len(), 8, "{promised:?}");
    let measured: Vec<(String, Vec<i32>)> = promised
        .iter()
        .map(|(kind, _)| (kind.clone(), ACTS.map(|act| lot.measured(act, kind)).to_vec()))
        .collect();
    assert_eq!(measured, promised);
}
