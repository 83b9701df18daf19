//! The one timer of a connection. It is moved only when it fires too early, so that a request costs no timer operation.

use std::future::Future as _;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::time::{Instant, Sleep, sleep_until};

pub(crate) struct Timer {
    sleep: Pin<Box<Sleep>>,
    deadline: Instant,
}

impl Timer {
    pub(crate) fn new(after: Duration) -> Self {
        let deadline = Instant::now() + after;
        Self { sleep: Box::pin(sleep_until(deadline)), deadline }
    }

    pub(crate) fn arm(&mut self, after: Duration) {
        self.deadline = Instant::now() + after;
        if self.deadline < self.sleep.deadline() {
            self.sleep.as_mut().reset(self.deadline);
        }
    }

    pub(crate) fn poll_expired(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            ready!(self.sleep.as_mut().poll(cx));
            if Instant::now() >= self.deadline {
                return Poll::Ready(());
            }
            self.sleep.as_mut().reset(self.deadline);
        }
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
