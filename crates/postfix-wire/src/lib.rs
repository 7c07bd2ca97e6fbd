//! Postfix's formats and protocols: records, attributes, cleanup, queue ids, main.cf, master
