//! `postsuper` with stock's options, for mail in Redis and in this host's Postfix.
//!
//! An id is a message's in Redis or a file's in Postfix, and its form says which. `-d`, `-h`, `-H`,
//! `-r` with ids in Redis, or with `ALL`, are carried out in Redis first, so that no mail moves to
//! Postfix behind stock postsuper. Everything else is stock's own work. Without those options, as
//! when Postfix starts, Redis isn't asked. When Redis is away, stock's part is done all the same,
//! and the failure is reported.
//!
//! Stock names queues by directories. Mail in Redis counts as in `incoming` and `active`, and mail
//! on hold as in `hold`. No mail in Redis counts as in `deferred` or `maildrop`.
//!
//! Source: Postfix `postsuper(1)`.

use std::collections::BTreeSet;
use std::io::BufRead;
use std::process::ExitCode;

use agents::daemon::{self, Instance, Options};
use anyhow::{Context, Result};
use handoff::protocol::NewName;
use nix::unistd::Uid;
use postdrop_rs::log::{Log, Severity};
use queue::held::Released;
use spool::{Act, MessageId, Operated, Spool};

use crate::operate::{
    Filter, Outcome, Which, at_nodes, done, done_words, left_in_doubt, of_stock, operate, own_node,
    release_held, without_doubt, without_mark,
};
use crate::stock::{Stock, Tally};

/// Name by which the administrator calls the program.
pub(crate) const NAME: &str = "postsuper";

/// Names of queues that stock knows; it ends with a complaint about any other.
const QUEUES: [&str; 9] =
    ["maildrop", "incoming", "active", "deferred", "hold", "trace", "defer", "bounce", "flush"];
/// Queues in which mail in Redis counts.
const QUEUES_OF_REDIS: [&str; 3] = ["incoming", "active", "hold"];

/// One option with a queue id.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Step {
    option: char,
    id: String,
}

/// The arguments, as far as they matter here.
#[derive(Debug, Default, PartialEq, Eq)]
struct Arguments {
    config_directory: Option<String>,
    /// Steps in the order given, which is the order of work.
    steps: Vec<Step>,
    /// Options `-p`, `-s` and `-S`.
    repairs: Vec<String>,
    verbosity: usize,
    queues: Vec<String>,
}

impl Arguments {
    /// Parses arguments. Returns `None` where stock would complain, since its own words are best.
    fn parse(arguments: &[String]) -> Option<Self> {
        let mut parsed = Self::default();
        let mut rest = arguments.iter();
        while let Some(argument) = rest.next() {
            let Some(letters) = argument.strip_prefix('-').filter(|it| !it.is_empty()) else {
                parsed.queues.push(argument.clone());
                break;
            };
            if letters == "-" {
                break;
            }
            parsed.letters(letters, &mut rest)?;
        }
        parsed.queues.extend(rest.cloned());
        parsed.queues.iter().all(|it| QUEUES.contains(&it.as_str())).then_some(parsed)
    }

    fn names_redis(&self) -> bool {
        self.queues.is_empty()
            || self.queues.iter().any(|it| QUEUES_OF_REDIS.contains(&it.as_str()))
    }

    fn letters<'a>(
        &mut self,
        letters: &str,
        rest: &mut impl Iterator<Item = &'a String>,
    ) -> Option<()> {
        for (at, letter) in letters.char_indices() {
            match letter {
                'p' | 's' | 'S' => self.repairs.push(format!("-{letter}")),
                'v' => self.verbosity += 1,
                'c' | 'd' | 'e' | 'f' | 'h' | 'H' | 'r' => {
                    let attached = &letters[at + 1..];
                    let value = if attached.is_empty() {
                        rest.next()?.clone()
                    } else {
                        attached.to_owned()
                    };
                    match letter {
                        'c' => self.config_directory = Some(value).filter(|it| it.starts_with('/')),
                        option => self.steps.push(Step { option, id: value }),
                    }
                    return if letter == 'c' {
                        self.config_directory.as_ref().map(|_| ())
                    } else {
                        Some(())
                    };
                }
                _ => return None,
            }
        }
        Some(())
    }
}

fn act(option: char) -> Option<Act> {
    match option {
        'd' => Some(Act::Delete),
        'h' => Some(Act::Hold),
        'H' => Some(Act::Release),
        'r' => Some(Act::Requeue),
        _ => None,
    }
}

pub(crate) fn main() -> ExitCode {
    let arguments: Vec<String> =
        std::env::args_os().skip(1).map(|it| it.to_string_lossy().into_owned()).collect();
    daemon::end(NAME, run(&arguments))
}

fn run(arguments: &[String]) -> Result<ExitCode> {
    let parsed = Arguments::parse(arguments);
    let config_directory = parsed.as_ref().and_then(|it| it.config_directory.clone());
    let config_directory = config_directory.or_else(|| std::env::var("MAIL_CONFIG").ok());
    let config_directory = config_directory.unwrap_or_else(|| "/etc/postfix".to_owned());
    let mut stock = Stock::in_directory(config_directory.as_ref())?;
    match parsed {
        Some(parsed)
            if Uid::current().is_root()
                && parsed.steps.iter().any(|it| act(it.option).is_some()) =>
        {
            stock.verbosity = parsed.verbosity;
            let options = Options {
                config_directory: config_directory.into(),
                log_level: String::new(),
                name: None,
            };
            Work::new(&options, stock, parsed).run()
        }
        _ => Err(stock.become_it(arguments)),
    }
}

struct Work {
    /// The instance, or the reason why Redis can't be asked.
    instance: Result<Instance>,
    stock: Stock,
    arguments: Arguments,
    log: Log,
    tally: Tally,
    has_failed: bool,
}

impl Work {
    fn new(options: &Options, stock: Stock, arguments: Arguments) -> Self {
        let mut log = Log::new(NAME);
        let configure =
            |instance: Instance| Ok(log.configure(&instance.main_cf).map(|()| instance)?);
        let instance = Instance::open(options).and_then(configure);
        Self { instance, stock, arguments, log, tally: Tally::default(), has_failed: false }
    }

    fn run(mut self) -> Result<ExitCode> {
        if !self.arguments.repairs.is_empty() {
            let repairs = [&self.arguments.repairs[..], &self.arguments.queues].concat();
            self.stock.run(&repairs, &[], &mut self.tally)?;
            if let Some(code) = self.tally.failed {
                return Ok(code.into());
            }
        }
        for step in std::mem::take(&mut self.arguments.steps) {
            self.step(&step)?;
        }
        self.summary();
        Ok(match self.tally.failed {
            Some(code) => code.into(),
            None if self.has_failed => ExitCode::FAILURE,
            None => ExitCode::SUCCESS,
        })
    }

    fn step(&mut self, step: &Step) -> Result<()> {
        let option = format!("-{}", step.option);
        let ids = match step.id.as_str() {
            "ALL" => {
                if let Some(act) = act(step.option) {
                    let queues = self.queues_for(act);
                    self.in_redis(
                        act,
                        &Which::Matching(Filter { queues, ..Filter::default() }),
                        false,
                    );
                } else {
                    self.not_in_redis(&option);
                }
                return self.stock_run(&option, "ALL", &[]);
            }
            "-" => std::io::stdin().lock().lines().collect::<std::io::Result<Vec<_>>>()?,
            one => vec![one.to_owned()],
        };
        let ids: Vec<&str> =
            ids.iter().map(|id| without_mark(id)).filter(|id| !id.is_empty()).collect();
        let mut in_redis: BTreeSet<MessageId> =
            ids.iter().filter_map(|id| id.parse().ok()).collect();
        let is_of_postfix = |id: &&&str| id.parse::<MessageId>().is_err();
        let in_postfix: Vec<String> =
            ids.iter().filter(is_of_postfix).map(|id| (*id).to_owned()).collect();
        match act(step.option) {
            None if !in_redis.is_empty() => self.not_in_redis(&option),
            Some(act) => {
                in_redis.extend(self.committed(&in_postfix));
                if !in_redis.is_empty() && self.arguments.names_redis() {
                    self.in_redis(act, &Which::Ids(in_redis), true);
                }
            }
            None => (),
        }
        if in_postfix.is_empty() { Ok(()) } else { self.stock_run(&option, "-", &in_postfix) }
    }

    /// Returns the queues by which mail in Redis is selected for an act on all mail. A release
    /// concerns mail on hold alone, so `hold` then selects all queues.
    fn queues_for(&self, act: Act) -> Vec<String> {
        let queues = &self.arguments.queues;
        let is_all = act == Act::Release && queues.iter().any(|it| it == "hold");
        if is_all { Vec::new() } else { queues.clone() }
    }

    /// Returns the messages of files that are committed to this node. Redis must know of the act
    /// before the files change.
    fn committed(&self, queue_ids: &[String]) -> Vec<MessageId> {
        let Ok(instance) = &self.instance else { return Vec::new() };
        let Some(node) = own_node(instance).filter(|_| !queue_ids.is_empty()) else {
            return Vec::new();
        };
        let named: BTreeSet<&String> = queue_ids.iter().collect();
        let spool = instance.looking();
        let asked = instance.with_least_rights(|| daemon::block_on(spool.inventory(&node)));
        // An unreachable Redis is reported by the act itself.
        let Ok(Ok(Ok(placed))) = asked else { return Vec::new() };
        placed
            .into_iter()
            .filter(|it| named.contains(&it.queue_id.to_string()))
            .map(|it| it.id)
            .collect()
    }

    fn stock_run(&mut self, option: &str, id: &str, ids: &[String]) -> Result<()> {
        let (mut id, mut ids) = (id, ids.to_vec());
        if option == "-H" {
            let released = self.release_ours((id != "ALL").then_some(&ids))?;
            // Stock must not release what is left on hold.
            if !released.unknown.is_empty() {
                let names: BTreeSet<String> =
                    released.unknown.iter().map(ToString::to_string).collect();
                if id == "ALL" {
                    ids = released.others.iter().map(ToString::to_string).collect();
                    id = "-";
                }
                ids.retain(|it| !names.contains(it));
            }
        }
        let arguments = [&[option.to_owned(), id.to_owned()], &self.arguments.queues[..]].concat();
        self.stock.run(&arguments, &ids, &mut self.tally)
    }

    /// Releases mail of OPTIMUS that no Mail Agent has released, before stock would.
    fn release_ours(&mut self, names: Option<&Vec<String>>) -> Result<Released> {
        let queues = &self.arguments.queues;
        let Ok(instance) = &self.instance else { return Ok(Released::default()) };
        if !queues.is_empty() && !queues.iter().any(|it| it == "hold") {
            return Ok(Released::default());
        }
        let released = release_held(instance, names.map(Vec::as_slice), &mut self.tally)?;
        for NewName { was, now } in &released.renamed {
            self.log.say(Severity::Info, &format!("{was}: released from hold as {now}"));
        }
        for name in &released.unknown {
            let words = format!(
                "{name}: left on hold: Redis can't be asked whether Postfix had this file before; \
                 run the command again"
            );
            self.log.say(Severity::Warning, &words);
            self.has_failed = true;
        }
        Ok(released)
    }

    fn not_in_redis(&mut self, option: &str) {
        let words = format!(
            "option {option}: mail in Redis can't be expired; only this host's Postfix is asked"
        );
        self.log.say(Severity::Warning, &words);
        self.has_failed = true;
    }

    /// Does Redis's part, and that of this host's Postfix for mail that is committed to it.
    /// Failures are reported, and stop nothing.
    fn in_redis(&mut self, act: Act, which: &Which, has_names: bool) {
        let (what, result) = (of_stock(act).1, self.operated(act, which));
        self.tally.add(what, 0);
        match result {
            Ok(outcome) => {
                self.tally.add(
                    what,
                    outcome.each.values().filter(|it| is_done(act, **it)).count() as u64,
                );
                if has_names {
                    self.tell(act, &outcome);
                }
            }
            Err(error) => {
                let told = settings::told(error.as_ref());
                let words = format!("mail in Redis: not changed: {told}; run the command again");
                self.log.say(Severity::Warning, &words);
                self.has_failed = true;
            }
        }
    }

    fn operated(&mut self, act: Act, which: &Which) -> Result<Outcome> {
        let instance = self.instance.as_ref().map_err(|error| anyhow::anyhow!("{error:#}"))?;
        let spool: Spool = instance.spool();
        let server = instance.server.address.to_string();
        let found = without_doubt(instance, act, which.clone())?;
        self.tally.add(of_stock(act).1, found.deleted.len() as u64);
        for id in &found.deleted {
            self.log.say(Severity::Info, &format!("{id}: {}", done_words(act)));
        }
        let outcome = instance
            .with_least_rights(|| daemon::block_on(operate(&spool, act, &found.rest)))??;
        let mut outcome = outcome.with_context(|| format!("redis at {server}"))?;
        let at_nodes = at_nodes(instance, act, &outcome, &mut self.tally)?;
        self.tally.add(of_stock(act).1, at_nodes.done);
        for (id, words) in left_in_doubt(act, &found, &outcome) {
            self.log.say(Severity::Warning, &format!("{id}: {words}"));
            self.has_failed = true;
            outcome.each.remove(&id);
        }
        for (node, ids) in at_nodes.left {
            let words = format!(
                "node {node}: {} of the messages wait for the Mail Agent there, which has the \
                    order; or run postsuper {} there",
                ids.len(),
                of_stock(act).0
            );
            self.log.say(Severity::Warning, &words);
            self.has_failed = true;
        }
        if !outcome.undecided.is_empty() {
            let words =
                format!("{} messages: moved on; run the command again", outcome.undecided.len());
            self.log.say(Severity::Warning, &words);
            self.has_failed = true;
        }
        Ok(outcome)
    }

    fn tell(&self, act: Act, outcome: &Outcome) {
        for (id, operated) in &outcome.each {
            match operated {
                it if is_done(act, *it) => {
                    self.log.say(Severity::Info, &format!("{id}: {}", done_words(act)));
                }
                Operated::Unknown | Operated::Gone | Operated::Missing => {
                    self.log.say(Severity::Warning, &format!("{id}: no such message in Redis"));
                }
                _ => (),
            }
        }
    }

    /// Logs the summary, in stock's order.
    fn summary(&self) {
        for what in ["Requeued", "Deleted", "Force-expired", "Placed on hold", "Released from hold"]
        {
            if let Some(count) = self.tally.messages.get(what) {
                let plural = if *count == 1 { "" } else { "s" };
                self.log.say(Severity::Info, &format!("{what}: {count} message{plural}"));
            }
        }
    }
}

/// Whether stock would count the message. Mail that waits in Redis is as good as requeued.
fn is_done(act: Act, operated: Operated) -> bool {
    operated == done(act) || (act, operated) == (Act::Requeue, Operated::Already)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(words: &str) -> Option<Arguments> {
        Arguments::parse(&words.split_whitespace().map(str::to_owned).collect::<Vec<_>>())
    }

    #[test]
    fn options_are_read_as_getopt_reads_them() {
        let parsed = parse("-vd ALL -h4C1B2 -psv -c /x hold active").unwrap();
        let step = |option, id: &str| Step { option, id: id.to_owned() };
        assert_eq!(parsed.steps, [step('d', "ALL"), step('h', "4C1B2")]);
        assert_eq!((parsed.verbosity, parsed.repairs.len()), (2, 2));
        assert_eq!(parsed.queues, ["hold", "active"]);
        assert_eq!(parse("-d - -- hold").unwrap().queues, ["hold"]);
        for wrong in ["-x", "-d", "-c relative", "-vz", "-d ALL nonsense", "-d ALL hold -v"] {
            assert_eq!(parse(wrong), None, "{wrong}");
        }
    }
}
