//! The three agents and the operator's command
