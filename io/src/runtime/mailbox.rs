//! Calls on their way to a thread that carries them out one after the other.
//!
//! Not a channel of the standard library: that rings while it holds its lock, and where the woken thread
//! takes over the processor it meets that lock again and goes back to sleep.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use crate::lull::Lull;

struct Queue<T> {
    waiting: VecDeque<T>,
    /// The receiver sleeps.
    asleep: bool,
    /// One of both ends is gone.
    closed: bool,
}

struct Shared<T> {
    queue: Mutex<Queue<T>>,
    bell: Condvar,
}

/// The end that puts in. Dropped, it lets the receiver take what is there, and end.
pub(super) struct Sender<T>(Arc<Shared<T>>);

/// The end that takes out.
pub(super) struct Receiver<T> {
    shared: Arc<Shared<T>>,
    lull: Lull,
}

/// A mailbox, unbounded: whoever sends keeps the bound.
pub(super) fn mailbox<T>() -> (Sender<T>, Receiver<T>) {
    let queue = Queue { waiting: VecDeque::new(), asleep: false, closed: false };
    let shared = Arc::new(Shared { queue: Mutex::new(queue), bell: Condvar::new() });
    (Sender(Arc::clone(&shared)), Receiver { shared, lull: Lull::default() })
}

impl<T> Shared<T> {
    fn lock(&self) -> MutexGuard<'_, Queue<T>> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self, change: impl FnOnce(&mut Queue<T>)) {
        let mut queue = self.lock();
        change(&mut queue);
        let asleep = queue.asleep;
        drop(queue);
        if asleep {
            self.bell.notify_one();
        }
    }
}

impl<T> Sender<T> {
    /// Puts one in; what nobody takes any more is dropped.
    pub(super) fn send(&self, item: T) {
        self.0.change(|queue| {
            if !queue.closed {
                queue.waiting.push_back(item);
            }
        });
    }
}

impl<T> Drop for Sender<T> {
    fn drop(&mut self) {
        self.0.change(|queue| queue.closed = true);
    }
}

impl<T> Receiver<T> {
    /// Waits for the next one. `None`: there will be none.
    pub(super) fn receive(&mut self) -> Option<T> {
        let began = Instant::now();
        let at_once = self.lull.look(began, || {
            let mut queue = self.shared.lock();
            let next = queue.waiting.pop_front();
            (next.is_some() || queue.closed).then_some(next)
        });
        let next = at_once.unwrap_or_else(|| self.sleep());
        self.lull.ended(began);
        next
    }

    fn sleep(&self) -> Option<T> {
        let mut queue = self.shared.lock();
        while queue.waiting.is_empty() && !queue.closed {
            queue.asleep = true;
            queue = self.shared.bell.wait(queue).unwrap_or_else(PoisonError::into_inner);
        }
        queue.asleep = false;
        queue.waiting.pop_front()
    }
}

impl<T> Drop for Receiver<T> {
    fn drop(&mut self) {
        let mut queue = self.shared.lock();
        queue.closed = true;
        let waiting = std::mem::take(&mut queue.waiting);
        drop(queue);
        drop(waiting);
    }
}

#[cfg(test)]
mod tests {
    use std::thread;
    use std::time::Duration;

    use super::*;

    #[test]
    fn what_was_sent_comes_in_its_order_also_when_the_sender_is_gone() {
        let (sender, mut receiver) = mailbox();
        (0..5).for_each(|n| sender.send(n));
        drop(sender);
        let all: Vec<i32> = std::iter::from_fn(|| receiver.receive()).collect();
        assert_eq!(all, [0, 1, 2, 3, 4]);
        assert_eq!(receiver.receive(), None);
    }

    #[test]
    fn a_receiver_that_sleeps_or_looks_again_misses_nothing() {
        let (there, mut calls) = mailbox();
        let (back, mut answers) = mailbox();
        let thread = thread::spawn(move || {
            while let Some(n) = calls.receive() {
                back.send(n);
            }
        });
        for n in 0..2000 {
            // Now and then it has fallen asleep.
            if n % 100 == 0 {
                thread::sleep(Duration::from_millis(2));
            }
            there.send(n);
            assert_eq!(answers.receive(), Some(n));
        }
        drop(there);
        assert_eq!(answers.receive(), None);
        thread.join().unwrap();
    }

    #[test]
    fn what_nobody_takes_any_more_is_dropped() {
        let (sender, receiver) = mailbox();
        let item = Arc::new(());
        sender.send(Arc::clone(&item));
        drop(receiver);
        sender.send(Arc::clone(&item));
        assert_eq!(Arc::strong_count(&item), 1);
    }
}
