//! Between the machines and Redis: questions arrive, answers get lost, come late or come twice; and
//! notice.

use std::collections::BTreeSet;

use agents::info::{self, Dealt};
use agents::machine::{Input, Ticket};
use agents::mail;
use agents::scheduler;
use notices::Notice;

use super::{Event, World};
use crate::machines::{Answer, Question};

impl World {
    pub(super) fn arrive(&mut self, number: usize, ticket: Ticket, question: Question) {
        if !self.redis_is_up {
            return self.later(1, 20, Event::Input(number, Input::Failed(ticket)));
        }
        let answer = match question {
            Question::Info(question) => Answer::Info(self.answer_info(question)),
            Question::Scheduler(question) => Answer::Scheduler(self.answer_scheduler(question)),
            Question::Mail(question) => Answer::Mail(self.answer_mail(question)),
        };
        self.publish();
        if self.random.chance(self.weather.lost_questions) {
            // The answer is lost, or comes when nobody waits for it.
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
                self.redis.reap();
                scheduler::Answer::Seen(self.redis.see())
            }
            scheduler::Question::Rescue(rescue) => {
                let lots = rescue.reassign.iter().map(|node| self.redis.reassign(node)).sum();
                let resent = rescue.lose.iter().map(|node| self.redis.lose(node, self.grace)).sum();
                scheduler::Answer::Rescued(scheduler::Rescued { lots, resent })
            }
        }
    }

    fn answer_mail(&mut self, question: mail::Question) -> mail::Answer {
        match question {
            mail::Question::Lease(question) => mail::Answer::Lease(self.redis.lease(question)),
            mail::Question::HandBack(token)
            | mail::Question::Inventory(token)
            | mail::Question::Fetch(token)
            | mail::Question::Report(token, _)
            | mail::Question::Pull(token, _)
                if self.redis.is_superseded(&token) =>
            {
                mail::Answer::Superseded
            }
            mail::Question::HandBack(token) => {
                self.redis.reassign(&token.node);
                mail::Answer::HandedBack
            }
            mail::Question::Inventory(token) => {
                self.redis.arrive(&token);
                mail::Answer::Inventory(self.redis.inventory(&token.node))
            }
            mail::Question::Fetch(token) => mail::Answer::Fetched(self.redis.fetch(&token.node)),
            mail::Question::Orders(token) => mail::Answer::Orders(self.redis.orders(&token.node)),
            mail::Question::Report(token, report) => {
                let (commits, renames) = self.redis.report(&token.node, &report);
                mail::Answer::Reported { commits, renames, present: BTreeSet::new() }
            }
            mail::Question::Look => {
                mail::Answer::Looked { window: self.redis.window(), lanes: self.redis.lanes() }
            }
            mail::Question::Pull(token, lots) => {
                lots.iter().for_each(|lot| _ = self.redis.assign(*lot, &token.node));
                mail::Answer::Pulled
            }
        }
    }

    pub(super) fn publish(&mut self) {
        for text in std::mem::take(&mut self.redis.published) {
            self.spread(&text.parse().expect("notice"));
        }
    }

    /// A notice for everybody, some of it lost, late or twice.
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
