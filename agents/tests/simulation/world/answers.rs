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

    fn answer_info(&mut self, question: info::InfoQuestion) -> info::InfoAnswer {
        match question {
            info::InfoQuestion::Lease(question) => {
                info::InfoAnswer::Lease(self.redis.lease(question))
            }
            info::InfoQuestion::See => info::InfoAnswer::Seen(self.redis.see()),
            info::InfoQuestion::Deal(deal) => {
                let assigned =
                    deal.assign.iter().filter(|(lot, node)| self.redis.assign(*lot, node)).count();
                let cut = deal.cut.iter().map(|(lot, node)| self.redis.cut(*lot, node)).collect();
                info::InfoAnswer::Dealt(Dealt { assigned, cut })
            }
        }
    }

    fn answer_scheduler(
        &mut self,
        question: scheduler::SchedulerQuestion,
    ) -> scheduler::SchedulerAnswer {
        match question {
            scheduler::SchedulerQuestion::Lease(question) => {
                scheduler::SchedulerAnswer::Lease(self.redis.lease(question))
            }
            scheduler::SchedulerQuestion::See => {
                self.redis.spool.reap();
                scheduler::SchedulerAnswer::Seen(self.redis.see())
            }
            scheduler::SchedulerQuestion::Suspect(Peer { agent, start, taken, .. }) => {
                let outcome = self.redis.spool.suspect(&agent, start, taken);
                self.note(&format!("{agent} suspect: {outcome:?}"));
                self.suspected += usize::from(outcome == Suspected::Ended);
                scheduler::SchedulerAnswer::Suspected(agent, outcome)
            }
            scheduler::SchedulerQuestion::Supervise(changes) => {
                let outcomes = self.redis.spool.supervise(&changes);
                let is_new = |it: &&Supervised| **it == Supervised::Supervised;
                let count = outcomes.iter().filter(is_new).count();
                self.moved += count;
                scheduler::SchedulerAnswer::Supervised(count)
            }
            scheduler::SchedulerQuestion::Rescue(rescue) => {
                let lots = rescue.reassign.iter().map(|node| self.redis.spool.reassign(node)).sum();
                let mut taken = spool::Taken::default();
                rescue.lose.iter().for_each(|loss| taken += self.redis.lose(loss, self.grace));
                scheduler::SchedulerAnswer::Rescued(scheduler::Rescued { lots, taken })
            }
        }
    }

    fn answer_mail(&mut self, question: mail::MailQuestion) -> mail::MailAnswer {
        self.try_to_answer_mail(question).unwrap_or(mail::MailAnswer::Superseded)
    }

    fn try_to_answer_mail(
        &mut self,
        question: mail::MailQuestion,
    ) -> Result<mail::MailAnswer, SpoolError> {
        use mail::{MailAnswer, MailQuestion};
        let redis = &mut self.redis;
        Ok(match question {
            MailQuestion::Lease(question) => MailAnswer::Lease(redis.lease(question)),
            MailQuestion::HandBack(token) => {
                redis.spool.hand_back(&token)?;
                MailAnswer::HandedBack
            }
            MailQuestion::Vouch(token) => match redis.spool.arrive(&token) {
                spool::Arrived::Arrived | spool::Arrived::Already => MailAnswer::Vouched,
                spool::Arrived::Superseded => MailAnswer::Superseded,
            },
            MailQuestion::Inventory(token) => MailAnswer::Inventory(redis.inventory(&token)?),
            MailQuestion::Fetch(token) => MailAnswer::Fetched(redis.fetch(&token)?),
            MailQuestion::Orders(token) => MailAnswer::Orders(redis.spool.orders_of(&token.node)),
            MailQuestion::Report(token, report) => redis.report(&token, report)?,
            MailQuestion::Look(node) => MailAnswer::Looked {
                window: redis.window(),
                lanes: redis.spool.lanes(),
                is_drained: redis.is_drained(&node),
            },
            MailQuestion::Pull(token, lots) => {
                redis.spool.pull(&token, &lots)?;
                MailAnswer::Pulled
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
