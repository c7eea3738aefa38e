//! Messages and the bytes that stand for them.
//!
//! [`message`] holds the meanings, free of any encoding; each dialect is a module that turns meanings into
//! bytes and back. No rule of the protocol lives here: a decoder says what was said, never what to do.

pub mod message;
pub mod serf;
