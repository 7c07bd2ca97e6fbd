//! For tests only: a real redis-server, a real Postfix and an SMTP sink as values that stop when dropped
