//! Messages longer than a datagram: what of them is under way ([`Flight`]), and putting them
//! together ([`Assembly`]).

mod assembly;
mod flight;

pub(crate) use assembly::Assembly;
pub(crate) use flight::Flight;
