//! Everything that knows a Redis key: schema, function library, sync and async clients
