use std::io::Write;
use std::net::{TcpListener, TcpStream as StdStream};
use std::thread::JoinHandle;

use spindle_common::execution::FailureClass;
use spindle_hadoop::conf::Configuration;

use super::*;

const SOON: Duration = Duration::from_millis(1);

/// Serves one connection after the other, by these functions, and then listens no more.
fn serve(connections: Vec<fn(StdStream)>) -> (u16, JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let serving = std::thread::spawn(move || {
        for serve in connections {
            serve(listener.accept().unwrap().0);
        }
    });
    (port, serving)
}

fn read(source: &SocketSource) -> Result<Vec<String>, OperatorError> {
    let io = Arc::new(IoContext::new(Configuration::new(), "test".to_owned()));
    let plan = PlanContext {
        io: Arc::clone(&io),
        parallelism: 1,
    };
    let splits = source.plan(&plan).unwrap().remove(0);
    let context = SourceContext {
        io,
        subtask: 0,
        parallelism: 1,
    };
    let mut reader = source.reader(splits, context)?;
    let mut lines = Vec::new();
    let mut batch = Batch::new();
    loop {
        let status = reader.read(&mut batch)?;
        lines.append(&mut batch.records);
        if status == SourceStatus::EndOfInput {
            return Ok(lines);
        }
    }
}

fn send(mut to: StdStream, text: &[u8]) {
    to.write_all(text).unwrap();
}

#[test]
fn a_server_that_closes_ends_the_source_after_its_last_line() {
    let (port, serving) = serve(vec![|to| send(to, b"one\r\n\ntwo\nlast")]);
    let lines = read(&SocketSource::new("127.0.0.1", port));
    assert_eq!(lines.unwrap(), ["one", "", "two", "last"]);
    serving.join().unwrap();
}

#[test]
fn it_connects_again_as_often_as_it_may_while_nothing_comes() {
    let (port, serving) = serve(vec![
        |to| send(to, b"a|b"),
        drop,
        |to| send(to, b"c|"),
        drop,
        drop,
    ]);
    let source = SocketSource::new("127.0.0.1", port)
        .delimiter("|")
        .max_retries(2)
        .retry_delay(SOON);
    // Two in a row without anything, twice; the third time would be one too many.
    let lines = read(&source);
    assert_eq!(lines.unwrap(), ["a", "b", "c"]);
    serving.join().unwrap();
}

#[test]
fn a_server_that_is_not_there_is_named_after_the_last_retry() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    drop(listener);
    let error = read(
        &SocketSource::new("127.0.0.1", port)
            .max_retries(1)
            .retry_delay(SOON),
    )
    .unwrap_err();
    let text = error.message;
    assert!(
        text.starts_with(&format!("cannot connect to 127.0.0.1:{port}: ")),
        "{text}"
    );
    assert!(text.ends_with("; tried again once"), "{text}");
    assert_eq!(error.class, FailureClass::Restart);
}

#[test]
fn a_connection_that_breaks_drops_the_line_that_had_begun_and_is_made_again() {
    let (port, serving) = serve(vec![
        |mut to| {
            to.write_all(b"whole\nbegu").unwrap();
            // A close with input that was not read is a reset; the client's greeting below is that input.
            wait_for_input(&to);
        },
        |to| send(to, b"next\n"),
    ]);
    let io = Arc::new(IoContext::new(Configuration::new(), "test".to_owned()));
    let source = SocketSource::new("127.0.0.1", port)
        .max_retries(3)
        .retry_delay(SOON);
    let context = SourceContext {
        io,
        subtask: 0,
        parallelism: 1,
    };
    let mut reader = SocketReader::of(&source, context);
    let mut batch = Batch::new();
    while batch.is_empty() {
        reader.read(&mut batch).unwrap();
    }
    let State::Connected(connection) = &mut reader.state else {
        panic!("it is connected")
    };
    connection.try_write(b"hello").unwrap();
    while batch.len() < 2 {
        assert_eq!(reader.read(&mut batch), Ok(SourceStatus::More));
    }
    assert_eq!(batch.records, ["whole", "next"]);
    serving.join().unwrap();
}

fn wait_for_input(from: &StdStream) {
    let mut byte = [0];
    from.peek(&mut byte).unwrap();
}

#[test]
fn lines_that_are_too_long_or_no_text_are_errors() {
    let (port, serving) = serve(vec![|to| send(to, b"12345678\n"), |to| {
        send(to, b"caf\xe9\n")
    }]);
    let source = SocketSource::new("127.0.0.1", port).max_line(7);
    let text = read(&source).unwrap_err().message;
    assert!(text.contains("sent a line of more than 7 bytes"), "{text}");
    let text = read(&source).unwrap_err().message;
    assert!(
        text.contains("sent a line that is not UTF-8 text"),
        "{text}"
    );
    serving.join().unwrap();
}

#[test]
fn more_than_one_subtask_is_refused() {
    let io = Arc::new(IoContext::new(Configuration::new(), "test".to_owned()));
    let plan = PlanContext { io, parallelism: 3 };
    let refused = SocketSource::new("here", 7)
        .plan(&plan)
        .unwrap_err()
        .to_string();
    assert!(refused.contains("`.set_parallelism(1)`"), "{refused}");
}
