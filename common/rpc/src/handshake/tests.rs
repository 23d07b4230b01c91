//! Both ends over a pipe in memory, and impostors at either.

use proptest::prelude::*;
use tokio::io::DuplexStream;

use super::*;

const OURS: FencingToken = FencingToken(3);

fn secret() -> Secret {
    Secret::from_bytes([7; 32])
}

fn other_secret() -> Secret {
    Secret::from_bytes([8; 32])
}

fn pipe() -> (DuplexStream, DuplexStream) {
    tokio::io::duplex(1024)
}

fn bound(opener: Challenge) -> Bound {
    Bound {
        service: Service::JobManager,
        attempt: OURS,
        opener,
        acceptor: make_challenge().unwrap(),
    }
}

/// What an opener with the right secret makes of an acceptor that answers its challenge so, and all that it has said.
async fn opener_meets(
    least: FencingToken,
    answer: impl FnOnce(Challenge) -> Vec<u8>,
) -> (Result<FencingToken, HandshakeError>, Vec<u8>) {
    let (mut near, mut far) = pipe();
    let impostor = async {
        let hello: [u8; HELLO_BYTES] = read_array(&mut far).await.unwrap();
        let answer = answer(*hello.last_chunk().unwrap());
        far.write_all(&answer).await.unwrap();
        let mut said = hello.to_vec();
        far.read_to_end(&mut said).await.unwrap();
        said
    };
    let opener = async move { open(&mut near, &secret(), Service::JobManager, least).await };
    tokio::join!(opener, impostor)
}

/// What an acceptor with the right secret makes of an opener that begins so and answers its welcome so.
async fn acceptor_meets(
    hello: &[u8],
    answer: impl FnOnce([u8; WELCOME_BYTES]) -> Vec<u8>,
) -> Result<(), HandshakeError> {
    let (mut near, mut far) = pipe();
    let impostor = async {
        far.write_all(hello).await.unwrap();
        if let Ok(welcome) = read_array(&mut far).await {
            far.write_all(&answer(welcome)).await.unwrap();
        }
        drop(far);
    };
    let acceptor = async move { accept(&mut near, &secret(), Service::JobManager, OURS).await };
    tokio::join!(acceptor, impostor).0
}

fn holds(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|window| window == part)
}

#[tokio::test]
async fn both_ends_prove_themselves_and_the_opener_learns_the_attempt() {
    let (mut near, mut far) = pipe();
    let (secret, service) = (secret(), Service::TaskExecutor);
    let opened = async {
        let attempt = open(&mut near, &secret, service, FencingToken(2)).await;
        // What follows the proof is for the one who accepted.
        near.write_all(b"first").await.unwrap();
        attempt
    };
    let accepted = async {
        accept(&mut far, &secret, service, OURS).await.unwrap();
        read_array::<_, 5>(&mut far).await.unwrap()
    };
    let (opened, first) = tokio::join!(opened, accepted);
    assert_eq!(opened.unwrap(), OURS);
    assert_eq!(first, *b"first");
}

#[tokio::test]
async fn the_opener_tells_an_impostor_nothing_but_a_challenge() {
    let (opened, said) = opener_meets(OURS, |opener| {
        bound(opener).welcome(&other_secret()).to_vec()
    })
    .await;
    assert!(matches!(opened, Err(HandshakeError::Secret)), "{opened:?}");
    assert_eq!(said.len(), HELLO_BYTES);
    assert!(!holds(&said, &secret().to_bytes()) && !holds(&said, secret().to_hex().as_bytes()));
}

#[tokio::test]
async fn the_welcome_of_another_connection_is_refused() {
    // Of this very process, with all but the opener's challenge right.
    let recorded = bound(make_challenge().unwrap()).welcome(&secret());
    let (opened, said) = opener_meets(OURS, |_| recorded.to_vec()).await;
    assert!(matches!(opened, Err(HandshakeError::Secret)), "{opened:?}");
    assert_eq!(said.len(), HELLO_BYTES);
}

#[tokio::test]
async fn a_welcome_that_was_changed_on_its_way_is_refused() {
    for at in MAGIC.len()..WELCOME_BYTES {
        let (opened, said) = opener_meets(FencingToken(0), |opener| {
            let mut welcome = bound(opener).welcome(&secret());
            welcome[at] ^= 1;
            welcome.to_vec()
        })
        .await;
        assert!(
            matches!(opened, Err(HandshakeError::Secret)),
            "byte {at}: {opened:?}"
        );
        assert_eq!(said.len(), HELLO_BYTES, "byte {at}");
    }
}

#[tokio::test]
async fn the_proof_of_a_task_executor_is_none_of_a_job_manager() {
    // An impostor that has a real process of another kind answer the challenge.
    let (opened, _) = opener_meets(OURS, |opener| {
        let service = Service::TaskExecutor;
        let oracle = Bound {
            service,
            ..bound(opener)
        };
        oracle.welcome(&secret()).to_vec()
    })
    .await;
    assert!(matches!(opened, Err(HandshakeError::Secret)), "{opened:?}");
}

#[tokio::test]
async fn an_older_attempt_gets_no_proof() {
    let older = |opener| bound(opener).welcome(&secret()).to_vec();
    let (opened, said) = opener_meets(FencingToken(OURS.0 + 1), older).await;
    assert!(
        matches!(opened, Err(HandshakeError::Attempt(OURS))),
        "{opened:?}"
    );
    assert_eq!(said.len(), HELLO_BYTES);
    let (opened, said) = opener_meets(OURS, older).await;
    assert_eq!(opened.unwrap(), OURS);
    assert_eq!(said.len(), HELLO_BYTES + PROOF_BYTES);
}

#[tokio::test]
async fn an_opener_that_mirrors_the_proof_is_refused() {
    let hello = hello(Service::JobManager, &make_challenge().unwrap());
    let mirrored = |welcome: [u8; WELCOME_BYTES]| welcome[WELCOME_BYTES - PROOF_BYTES..].to_vec();
    let accepted = acceptor_meets(&hello, mirrored).await;
    assert!(
        matches!(accepted, Err(HandshakeError::Secret)),
        "{accepted:?}"
    );
}

#[tokio::test]
async fn an_opener_that_says_again_what_another_said_is_refused() {
    let challenge = make_challenge().unwrap();
    let hello = hello(Service::JobManager, &challenge);
    let mut recorded = Vec::new();
    let prove = |welcome: [u8; WELCOME_BYTES]| {
        let rest = &welcome[MAGIC.len() + 8..];
        let bound = Bound {
            service: Service::JobManager,
            attempt: OURS,
            opener: challenge,
            acceptor: *rest.first_chunk().unwrap(),
        };
        recorded = bound.proof(&secret(), Role::Connecting).to_vec();
        recorded.clone()
    };
    acceptor_meets(&hello, prove).await.unwrap();
    let accepted = acceptor_meets(&hello, |_| recorded).await;
    assert!(
        matches!(accepted, Err(HandshakeError::Secret)),
        "{accepted:?}"
    );
}

#[tokio::test]
async fn what_speaks_otherwise_is_refused_at_its_first_bytes_and_gets_no_answer() {
    let (mut near, mut far) = pipe();
    far.write_all(b"GET / HTTP/1.1\r\n").await.unwrap();
    let secret = secret();
    let accepted = accept(&mut near, &secret, Service::JobManager, OURS).await;
    assert!(
        matches!(accepted, Err(HandshakeError::Protocol)),
        "{accepted:?}"
    );
    // A worker at the door for TaskExecutors.
    let hello = hello(Service::TaskExecutor, &[0; PROOF_BYTES]);
    far.write_all(&hello).await.unwrap();
    near.read_exact(&mut [0; 8]).await.unwrap();
    let accepted = accept(&mut near, &secret, Service::JobManager, OURS).await;
    assert!(
        matches!(accepted, Err(HandshakeError::Service)),
        "{accepted:?}"
    );
    drop(near);
    let mut answer = Vec::new();
    far.read_to_end(&mut answer).await.unwrap();
    assert!(answer.is_empty(), "{answer:?}");
    let (opened, said) = opener_meets(OURS, |_| b"HTTP/1.1 400 Bad Request\r\n".to_vec()).await;
    assert!(
        matches!(opened, Err(HandshakeError::Protocol)),
        "{opened:?}"
    );
    assert_eq!(said.len(), HELLO_BYTES);
}

#[tokio::test]
async fn an_end_in_the_middle_is_told_as_such() {
    for length in [0, 5, MAGIC.len(), MAGIC.len() + 9, WELCOME_BYTES - 1] {
        let (mut near, mut far) = pipe();
        let cut = async {
            let hello: [u8; HELLO_BYTES] = read_array(&mut far).await.unwrap();
            let welcome = bound(*hello.last_chunk().unwrap()).welcome(&secret());
            far.write_all(&welcome[..length]).await.unwrap();
            drop(far);
        };
        let secret = secret();
        let opener = open(&mut near, &secret, Service::JobManager, OURS);
        let (opened, ()) = tokio::join!(opener, cut);
        assert!(
            matches!(opened, Err(HandshakeError::Closed)),
            "{length}: {opened:?}"
        );
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn no_bytes_open_either_end(bytes in proptest::collection::vec(any::<u8>(), 0..200), begins_well: bool) {
        let run = async {
            let (secret, service) = (secret(), Service::JobManager);
            let mut said = Vec::new();
            let mut answered = Vec::new();
            if begins_well {
                said.extend_from_slice(&hello(service, &[1; PROOF_BYTES]));
                answered.extend_from_slice(&MAGIC);
            }
            said.extend_from_slice(&bytes);
            answered.extend_from_slice(&bytes);
            // Ends where the bytes do, so nobody waits for more.
            let mut stranger = tokio::io::join(&*said, Vec::new());
            let accepted = accept(&mut stranger, &secret, service, OURS).await;
            let mut impostor = tokio::io::join(&*answered, Vec::new());
            let opened = open(&mut impostor, &secret, service, FencingToken(0)).await;
            (accepted.is_err(), opened.is_err())
        };
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        prop_assert_eq!(runtime.block_on(run), (true, true));
    }
}
