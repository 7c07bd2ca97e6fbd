//! Tests of formats and protocols against a running stock Postfix: the real cleanup, sendmail and
//! master.

mod cleanup;
mod conversation;
mod maildrop;
mod master;
mod showq;
mod vectors;
