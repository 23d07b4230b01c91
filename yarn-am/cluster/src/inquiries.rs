//! Questions to TaskExecutors that wait for their answers. They pass the machine by: nothing is decided by them.

use std::collections::BTreeMap;

use spindle_common::gateway::InquiryAnswer;
use spindle_jobmanager::message::ConnectionId;
use tokio::sync::oneshot;

/// Questions that may wait at a time.
const MAX_WAITING: usize = 64;

/// Whoever asked gets the answer here; it is dropped if there will be none.
pub(crate) type Reply = oneshot::Sender<InquiryAnswer>;

#[derive(Default)]
pub(crate) struct Inquiries {
    last: u64,
    waiting: BTreeMap<u64, (ConnectionId, Reply)>,
}

impl Inquiries {
    /// Notes a question; answers its number, or nothing if too many wait.
    pub(crate) fn ask(&mut self, connection: ConnectionId, reply: Reply) -> Option<u64> {
        // Who has given up waiting is not counted.
        self.waiting.retain(|_, (_, reply)| !reply.is_closed());
        if self.waiting.len() >= MAX_WAITING {
            return None;
        }
        self.last += 1;
        self.waiting.insert(self.last, (connection, reply));
        Some(self.last)
    }

    /// Hands an answer on, if it is that of the one who was asked.
    pub(crate) fn answered(
        &mut self,
        connection: ConnectionId,
        inquiry: u64,
        answer: InquiryAnswer,
    ) {
        let asked = self.waiting.get(&inquiry).map(|(asked, _)| *asked);
        if asked != Some(connection) {
            tracing::debug!(
                connection = connection.0,
                inquiry,
                "dropped an answer that nobody waits for"
            );
        } else if let Some((_, reply)) = self.waiting.remove(&inquiry) {
            // Who asked may have gone.
            drop(reply.send(answer));
        }
    }

    /// Nobody answers any more on this connection.
    pub(crate) fn close(&mut self, connection: ConnectionId) {
        self.waiting.retain(|_, (asked, _)| *asked != connection);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(text: &str) -> InquiryAnswer {
        InquiryAnswer::Failed(text.to_owned())
    }

    #[test]
    fn an_answer_goes_to_who_asked_and_only_from_who_was_asked() {
        let mut inquiries = Inquiries::default();
        let (reply, mut answered) = oneshot::channel();
        let (one, other) = (ConnectionId(1), ConnectionId(2));
        let first = inquiries.ask(one, reply).unwrap();
        inquiries.answered(other, first, answer("not mine"));
        inquiries.answered(one, first + 1, answer("another one"));
        assert!(answered.try_recv().is_err());
        inquiries.answered(one, first, answer("mine"));
        assert_eq!(answered.try_recv(), Ok(answer("mine")));
        inquiries.answered(one, first, answer("again"));
    }

    #[test]
    fn who_waits_hears_of_the_end_of_the_stream_and_no_more_wait_than_may() {
        let mut inquiries = Inquiries::default();
        let mut waiting = Vec::new();
        for n in 0..MAX_WAITING as u64 {
            let (reply, answered) = oneshot::channel();
            assert!(inquiries.ask(ConnectionId(n % 2), reply).is_some());
            waiting.push(answered);
        }
        let (reply, _one_too_many) = oneshot::channel();
        assert_eq!(inquiries.ask(ConnectionId(0), reply), None);
        inquiries.close(ConnectionId(1));
        let closed = |answered: &mut oneshot::Receiver<_>| {
            answered.try_recv() == Err(oneshot::error::TryRecvError::Closed)
        };
        assert!(closed(&mut waiting[1]) && !closed(&mut waiting[0]));
        let (reply, _answered) = oneshot::channel();
        assert!(inquiries.ask(ConnectionId(0), reply).is_some());
    }
}
