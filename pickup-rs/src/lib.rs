//! Hand-off of mail from Redis to stock Postfix cleanup
