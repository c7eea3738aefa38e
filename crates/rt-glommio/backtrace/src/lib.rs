//! As much of the crate as glommio's stall detector names, without frames: see `Cargo.toml`.

/// A backtrace that knows nothing.
#[derive(Debug)]
pub struct Backtrace(Vec<BacktraceFrame>);

/// A frame of a backtrace; there are none.
#[derive(Debug)]
pub struct BacktraceFrame(());

/// A frame of the running thread; there are none.
#[derive(Clone, Debug)]
pub struct Frame(());

impl Backtrace {
    /// The frames.
    pub fn frames(&self) -> &[BacktraceFrame] {
        &self.0
    }

    /// Finds no names, because there are no frames.
    pub fn resolve(&mut self) {}
}

impl From<Vec<BacktraceFrame>> for Backtrace {
    fn from(frames: Vec<BacktraceFrame>) -> Backtrace {
        Backtrace(frames)
    }
}

impl From<Frame> for BacktraceFrame {
    fn from(_: Frame) -> BacktraceFrame {
        BacktraceFrame(())
    }
}

/// Walks over no frames.
pub fn trace_unsynchronized(_: impl FnMut(&Frame) -> bool) {}
