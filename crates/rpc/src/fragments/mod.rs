//! Messages longer than a datagram: their fragments under way ([`Flight`]), and their assembly
//! ([`Assembly`]).

mod assembly;
mod flight;

pub(crate) use assembly::Assembly;
pub(crate) use flight::Flight;
