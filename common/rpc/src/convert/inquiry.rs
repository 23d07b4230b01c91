//! Questions about a TaskExecutor's processes, and their answers.

use spindle_common::gateway::{Inquiry, InquiryAnswer, LogFile, ThreadDump};

use super::{ConvertError, required};
use crate::proto;
use crate::proto::inquire::What;
use crate::proto::inquired::Answer;

pub(super) fn inquire_out(inquiry: u64, what: Inquiry) -> proto::Inquire {
    let what = Some(match what {
        Inquiry::Logs => What::Logs(proto::Nothing {}),
        Inquiry::LogFile { name } => What::LogFile(name),
        Inquiry::Threads => What::Threads(proto::Nothing {}),
    });
    proto::Inquire { inquiry, what }
}

pub(super) fn inquire_in(inquire: proto::Inquire) -> Result<(u64, Inquiry), ConvertError> {
    let what = match required(inquire.what, "Inquire", "what")? {
        What::Logs(_) => Inquiry::Logs,
        What::LogFile(name) => Inquiry::LogFile { name },
        What::Threads(_) => Inquiry::Threads,
    };
    Ok((inquire.inquiry, what))
}

pub(super) fn inquired_out(inquiry: u64, answer: InquiryAnswer) -> proto::Inquired {
    let file = |file: LogFile| proto::LogFile {
        name: file.name,
        size: file.size,
        mtime_ms: file.mtime_ms,
    };
    let thread = |thread: ThreadDump| proto::ThreadDump {
        name: thread.name,
        text: thread.text,
    };
    let answer = Some(match answer {
        InquiryAnswer::Logs(files) => Answer::Logs(proto::LogFiles {
            files: files.into_iter().map(file).collect(),
        }),
        InquiryAnswer::LogFile { from, bytes } => Answer::LogFile(proto::LogPart { from, bytes }),
        InquiryAnswer::Threads(threads) => Answer::Threads(proto::ThreadDumps {
            threads: threads.into_iter().map(thread).collect(),
        }),
        InquiryAnswer::Failed(reason) => Answer::Failed(reason),
    });
    proto::Inquired { inquiry, answer }
}

pub(super) fn inquired_in(inquired: proto::Inquired) -> Result<(u64, InquiryAnswer), ConvertError> {
    let file = |file: proto::LogFile| LogFile {
        name: file.name,
        size: file.size,
        mtime_ms: file.mtime_ms,
    };
    let thread = |thread: proto::ThreadDump| ThreadDump {
        name: thread.name,
        text: thread.text,
    };
    let answer = match required(inquired.answer, "Inquired", "answer")? {
        Answer::Logs(logs) => InquiryAnswer::Logs(logs.files.into_iter().map(file).collect()),
        Answer::LogFile(part) => InquiryAnswer::LogFile {
            from: part.from,
            bytes: part.bytes,
        },
        Answer::Threads(dumps) => {
            InquiryAnswer::Threads(dumps.threads.into_iter().map(thread).collect())
        }
        Answer::Failed(reason) => InquiryAnswer::Failed(reason),
    };
    Ok((inquired.inquiry, answer))
}
