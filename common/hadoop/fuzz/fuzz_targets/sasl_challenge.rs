//! A challenge that is understood can be answered; a proof of anything else is refused.
#![no_main]

use libfuzzer_sys::fuzz_target;
use spindle_hadoop::sasl::{Challenge, Exchange, Password, Qop};
use spindle_hadoop::token::{Secret, Token, TokenKind};

fuzz_target!(|bytes: &[u8]| {
    let token = Token {
        identifier: b"id".to_vec(),
        password: Secret::from(&b"pw"[..]),
        kind: TokenKind::AmRm,
        service: String::new(),
    };
    let Ok(challenge) = Challenge::parse(bytes) else {
        return;
    };
    let wanted = [Qop::Auth, Qop::Integrity, Qop::Privacy];
    let password = Password::of_token(&token);
    if let Ok((_, exchange)) =
        Exchange::respond(&challenge, &password, "/default", &wanted, "cnonce")
    {
        assert!(exchange.verify(bytes).is_err());
    }
});
