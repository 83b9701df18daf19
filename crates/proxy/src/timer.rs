//! The one timer of a connection. It is moved only when it fires too early, so that a request costs no timer operation, and it
//! looks at the clock only when somebody waits: what is there already costs nothing.

use std::future::Future as _;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::time::{Instant, Sleep, sleep_until};

pub(crate) struct Timer {
    sleep: Pin<Box<Sleep>>,
    limit: Duration,
    /// Known once somebody has waited since the timer was armed.
    deadline: Option<Instant>,
}

impl Timer {
    pub(crate) fn new(after: Duration) -> Self {
        Self { sleep: Box::pin(sleep_until(Instant::now() + after)), limit: after, deadline: None }
    }

    /// Gives what is waited for next this long, from the first wait on.
    pub(crate) fn arm(&mut self, after: Duration) {
        (self.limit, self.deadline) = (after, None);
    }

    /// The same from a moment on that has just been.
    pub(crate) fn arm_from(&mut self, moment: Instant, after: Duration) {
        self.set(moment + after);
    }

    pub(crate) fn poll_expired(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let deadline = match self.deadline {
            Some(deadline) => deadline,
            None => self.begin(),
        };
        loop {
            ready!(self.sleep.as_mut().poll(cx));
            if Instant::now() >= deadline {
                return Poll::Ready(());
            }
            self.sleep.as_mut().reset(deadline);
        }
    }

    fn begin(&mut self) -> Instant {
        let deadline = Instant::now() + self.limit;
        self.set(deadline);
        deadline
    }

    fn set(&mut self, deadline: Instant) {
        if deadline < self.sleep.deadline() {
            self.sleep.as_mut().reset(deadline);
        }
        self.deadline = Some(deadline);
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn it_fires_when_it_was_armed_for() {
        let start = Instant::now();
        let mut timer = Timer::new(Duration::from_secs(10));
        timer.arm(Duration::from_secs(20));
        poll_fn(|cx| timer.poll_expired(cx)).await;
        assert_eq!(start.elapsed().as_secs(), 20);
        timer.arm(Duration::from_secs(60));
        timer.arm(Duration::from_secs(5));
        poll_fn(|cx| timer.poll_expired(cx)).await;
        assert_eq!(start.elapsed().as_secs(), 25);
    }
}
