//! Traffic between the machines and Redis: questions, answers and notices, which may get lost, come
//! late or come twice.

use agents::info::{self, Dealt};
use agents::machine::{Input, Ticket};
use agents::mail;
use agents::peer::Peer;
use agents::scheduler;
use notices::Notice;
use spool::{SpoolError, Supervised, Suspected};

use super::{Event, World};
use crate::machines::{Answer, Question};

impl World {
    pub(super) fn arrive(&mut self, number: usize, ticket: Ticket, question: Question) {
        if !self.redis_is_up {
            return self.later(1, 20, Event::Input(number, Input::Failed(ticket)));
        }
        self.questions += 1;
        let answer = match question {
            Question::Info(question) => Answer::Info(self.answer_info(question)),
            Question::Scheduler(question) => Answer::Scheduler(self.answer_scheduler(question)),
            Question::Mail(question) => Answer::Mail(self.answer_mail(question)),
        };
        self.publish();
        if self.random.chance(self.weather.lost_questions) {
            // The machine hears of a failure, and the answer comes too late.
            self.later(1, 30, Event::Input(number, Input::Failed(ticket)));
            self.later(20, 200, Event::Input(number, Input::Answer(ticket, answer.clone())));
        } else {
            if self.random.chance(self.weather.lost_questions) {
                self.later(1, 50, Event::Input(number, Input::Answer(ticket, answer.clone())));
            }
            self.later(1, 5, Event::Input(number, Input::Answer(ticket, answer)));
        }
    }

    fn answer_info(&mut self, question: info::Question) -> info::Answer {
        match question {
            info::Question::Lease(question) => info::Answer::Lease(self.redis.lease(question)),
            info::Question::See => info::Answer::Seen(self.redis.see()),
            info::Question::Deal(deal) => {
                let assigned =
                    deal.assign.iter().filter(|(lot, node)| self.redis.assign(*lot, node)).count();
                let cut = deal.cut.iter().map(|(lot, node)| self.redis.cut(*lot, node)).collect();
                info::Answer::Dealt(Dealt { assigned, cut })
            }
        }
    }

    fn answer_scheduler(&mut self, question: scheduler::Question) -> scheduler::Answer {
        match question {
            scheduler::Question::Lease(question) => {
                scheduler::Answer::Lease(self.redis.lease(question))
            }
            scheduler::Question::See => {
                self.redis.spool.reap();
                scheduler::Answer::Seen(self.redis.see())
            }
            scheduler::Question::Suspect(Peer { agent, start, taken, .. }) => {
                let outcome = self.redis.spool.suspect(&agent, start, taken);
                self.note(&format!("{agent} suspect: {outcome:?}"));
                self.suspected += usize::from(outcome == Suspected::Ended);
                scheduler::Answer::Suspected(agent, outcome)
            }
            scheduler::Question::Supervise(changes) => {
                let outcomes = self.redis.spool.supervise(&changes);
                let is_new = |it: &&Supervised| **it == Supervised::Supervised;
                let count = outcomes.iter().filter(is_new).count();
                self.moved += count;
                scheduler::Answer::Supervised(count)
            }
            scheduler::Question::Rescue(rescue) => {
                let lots = rescue.reassign.iter().map(|node| self.redis.spool.reassign(node)).sum();
                let mut taken = spool::Taken::default();
                rescue.lose.iter().for_each(|loss| taken += self.redis.lose(loss, self.grace));
                scheduler::Answer::Rescued(scheduler::Rescued { lots, taken })
            }
        }
    }

    fn answer_mail(&mut self, question: mail::Question) -> mail::Answer {
        self.try_to_answer_mail(question).unwrap_or(mail::Answer::Superseded)
    }

    fn try_to_answer_mail(&mut self, question: mail::Question) -> Result<mail::Answer, SpoolError> {
        use mail::{Answer, Question};
        let redis = &mut self.redis;
        Ok(match question {
            Question::Lease(question) => Answer::Lease(redis.lease(question)),
            Question::HandBack(token) => {
                redis.spool.hand_back(&token)?;
                Answer::HandedBack
            }
            Question::Vouch(token) => match redis.spool.arrive(&token) {
                spool::Arrived::Arrived | spool::Arrived::Already => Answer::Vouched,
                spool::Arrived::Superseded => Answer::Superseded,
            },
            Question::Inventory(token) => Answer::Inventory(redis.inventory(&token)?),
            Question::Fetch(token) => Answer::Fetched(redis.fetch(&token)?),
            Question::Orders(token) => Answer::Orders(redis.spool.orders_of(&token.node)),
            Question::Report(token, report) => redis.report(&token, report)?,
            Question::Look(node) => Answer::Looked {
                window: redis.window(),
                lanes: redis.spool.lanes(),
                is_drained: redis.is_drained(&node),
            },
            Question::Pull(token, lots) => {
                redis.spool.pull(&token, &lots)?;
                Answer::Pulled
            }
        })
    }

    pub(super) fn publish(&mut self) {
        for text in self.redis.spool.take_published() {
            self.spread(&text.parse().expect("notice"));
        }
    }

    /// Sends a notice to every process; some get it late, twice or not at all.
    pub(super) fn spread(&mut self, notice: &Notice) {
        let numbers: Vec<usize> = self.processes.keys().copied().collect();
        for number in numbers {
            if !self.random.chance(self.weather.lost_notices) {
                self.later(1, 10, Event::Input(number, Input::Notice(notice.clone())));
            }
            if self.random.chance(self.weather.lost_notices / 3) {
                self.later(1, 100, Event::Input(number, Input::Notice(notice.clone())));
            }
        }
    }
}
