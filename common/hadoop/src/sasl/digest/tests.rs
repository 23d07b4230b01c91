//! The exchange against golden vectors, and challenges that are none.

use proptest::prelude::*;

use super::*;
use crate::ipc::testing::unhex;
use crate::token::TokenKind;

const NONCE: &str = "y6lgUnjhtPispKXtBSVaFmFWT1o0eQNL03Wax+iM";
const CNONCE: &str = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwd";

fn password() -> Password {
    Password::of_token(&Token {
        identifier: unhex("0a0d0a090801109fd5c2db9f34100110a2a2ebf9f9ffffffff01"),
        password: (0..20).collect::<Vec<u8>>().into(),
        kind: TokenKind::AmRm,
        service: String::new(),
    })
}

fn exchange(qop: &str, wanted: &[Qop]) -> (String, Exchange) {
    let challenge = format!(
        "realm=\"default\",nonce=\"{NONCE}\",qop=\"{qop}\",charset=utf-8,cipher=\"3des,rc4,des,rc4-56,rc4-40\",algorithm=md5-sess"
    );
    let challenge = Challenge::parse(challenge.as_bytes()).unwrap();
    Exchange::respond(&challenge, &password(), "/default", wanted, CNONCE).unwrap()
}

#[test]
fn the_response_is_hadoops_for_qop_auth() {
    let (text, exchange) = exchange("auth", &[Qop::Auth]);
    assert_eq!(
        text,
        format!(
            "charset=utf-8,username=\"Cg0KCQgBEJ/VwtufNBABEKKi6/n5/////wE=\",realm=\"default\",nonce=\"{NONCE}\",\
             nc=00000001,cnonce=\"{CNONCE}\",digest-uri=\"/default\",maxbuf=65536,\
             response=4c3a5c6552d91518d83b728f95b50964,qop=auth"
        )
    );
    assert_eq!(hex(&exchange.ha1), "71c566be3678eb9f6e9424de1135ca1f");
    assert!(
        exchange
            .verify(b"rspauth=7f6def799d9d868a9031d2e55f1311e4")
            .unwrap()
            .is_none()
    );
}

#[test]
fn the_response_is_hadoops_for_qop_auth_int() {
    let (text, exchange) = exchange("auth,auth-int", &[Qop::Integrity, Qop::Auth]);
    assert!(
        text.contains("response=a5aacabce1b1b74f9ba5193b2b0617e1,qop=auth-int"),
        "{text}"
    );
    assert!(
        exchange
            .verify(b"rspauth=793580ebca75ca3d2eceacc35ec7495c")
            .unwrap()
            .is_some()
    );
}

#[test]
fn the_first_wanted_protection_that_is_offered_is_taken() {
    let all = [Qop::Auth, Qop::Integrity, Qop::Privacy];
    assert_eq!(exchange("auth-conf,auth", &all).1.qop(), Qop::Auth);
    let (text, conf) = exchange("auth-conf", &all);
    assert_eq!(conf.qop(), Qop::Privacy);
    assert!(text.ends_with("qop=auth-conf,cipher=\"rc4\""), "{text}");
}

#[test]
fn nothing_in_common_is_an_error_that_says_what_was_offered() {
    let challenge = Challenge::parse(b"nonce=x,qop=auth").unwrap();
    let error = Exchange::respond(&challenge, &password(), "/default", &[Qop::Privacy], CNONCE)
        .unwrap_err();
    assert_eq!(
        error,
        SaslError::NoCommonQop {
            offered: "auth".into()
        }
    );
    let challenge = Challenge::parse(b"nonce=x,qop=auth-conf,cipher=\"3des\"").unwrap();
    let error = Exchange::respond(&challenge, &password(), "/default", &[Qop::Privacy], CNONCE)
        .unwrap_err();
    assert_eq!(error, SaslError::NoCommonCipher("3des".into()));
}

#[test]
fn a_server_that_does_not_prove_itself_is_refused() {
    for proof in [
        &b"rspauth=00000000000000000000000000000000"[..],
        b"",
        b"rspauth=",
    ] {
        let (_, exchange) = exchange("auth", &[Qop::Auth]);
        assert_eq!(
            exchange.verify(proof).unwrap_err(),
            SaslError::ServerNotAuthentic
        );
    }
}

#[test]
fn challenges_may_be_quoted_or_bare_and_spaced() {
    let challenge = Challenge::parse(
        b" realm=default , nonce=\"a\\\"b,c\",,qop=\"auth,auth-int\",algorithm=md5-sess",
    )
    .unwrap();
    assert_eq!(challenge.nonce, "a\"b,c");
    assert_eq!(
        (challenge.realm.as_str(), challenge.qop.as_str()),
        ("default", "auth,auth-int")
    );
}

#[test]
fn broken_challenges_are_refused() {
    assert_eq!(Challenge::parse(b""), Err(SaslError::Missing("nonce")));
    assert_eq!(Challenge::parse(b"nonce"), Err(SaslError::Challenge(5)));
    assert_eq!(Challenge::parse(b"nonce=\"x"), Err(SaslError::Challenge(8)));
    assert_eq!(
        Challenge::parse(b"nonce=a,nonce=b"),
        Err(SaslError::Repeated("nonce".into()))
    );
    assert_eq!(
        Challenge::parse(b"nonce=a,algorithm=md5"),
        Err(SaslError::Algorithm("md5".into()))
    );
}

#[test]
fn debug_output_shows_no_password() {
    assert!(!format!("{:?}", password()).contains("AAECAwQF"));
}

proptest! {
    #[test]
    fn parsing_arbitrary_challenges_never_panics(bytes: Vec<u8>, text in "(realm|nonce|qop|=|\"|\\\\|,| |é|x){0,30}") {
        let _ = Challenge::parse(&bytes);
        if let Ok(challenge) = Challenge::parse(text.as_bytes()) {
            let _ = Exchange::respond(&challenge, &password(), "/default", &[Qop::Auth], CNONCE);
        }
    }
}
