//! Authentication by token: NEGOTIATE, INITIATE with the digest response, the server's proof.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use bytes::BytesMut;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::frame::{self, AuthProtocol, FrameDecoder, FrameError, Response};
use super::{AuthError, RemoteException};
use crate::proto::common::RpcSasl;
use crate::proto::common::rpc_sasl::{SaslAuth, SaslState};
use crate::sasl::{Challenge, Exchange, Layer, Password, Qop};
use crate::token::Token;

const METHOD: &str = "TOKEN";
const MECHANISM: &str = "DIGEST-MD5";

/// Authenticates a fresh connection; the layer that protects what follows, if one was agreed on.
pub(super) async fn by_token(
    stream: &mut TcpStream,
    decoder: &mut FrameDecoder,
    token: &Token,
    wanted: &[Qop],
) -> Result<Option<Layer>, AuthError> {
    let mut out = BytesMut::from(&frame::preamble(AuthProtocol::Sasl)[..]);
    frame::put_sasl(&mut out, &message(SaslState::Negotiate, None));
    stream.write_all(&out).await?;

    let offer = receive(stream, decoder).await?;
    if offer.state() != SaslState::Negotiate {
        return Err(refuse(&offer));
    }
    let auth = choose(&offer.auths)?;
    let digest_uri = format!("{}/{}", auth.protocol(), auth.server_id());
    let challenge = auth.challenge.clone();
    // The server finds the echo in its list by equality: everything but the challenge is given back.
    let echo = SaslAuth {
        challenge: None,
        ..auth.clone()
    };

    let challenge = match challenge {
        Some(bytes) => bytes,
        None => {
            send(
                stream,
                &RpcSasl {
                    auths: vec![echo.clone()],
                    ..message(SaslState::Initiate, None)
                },
            )
            .await?;
            expect(stream, decoder, SaslState::Challenge).await?
        }
    };
    let challenge_in_offer = auth.challenge.is_some();
    let challenge = Challenge::parse(&challenge)?;
    let (text, exchange) = Exchange::respond(
        &challenge,
        &Password::of_token(token),
        &digest_uri,
        wanted,
        &client_nonce(),
    )?;
    let answer = if challenge_in_offer {
        RpcSasl {
            auths: vec![echo],
            ..message(SaslState::Initiate, Some(text.into_bytes()))
        }
    } else {
        message(SaslState::Response, Some(text.into_bytes()))
    };
    send(stream, &answer).await?;
    let proof = expect(stream, decoder, SaslState::Success).await?;
    Ok(exchange.verify(&proof)?)
}

fn message(state: SaslState, token: Option<Vec<u8>>) -> RpcSasl {
    RpcSasl {
        version: None,
        state: state.into(),
        token,
        auths: Vec::new(),
    }
}

fn choose(offers: &[SaslAuth]) -> Result<&SaslAuth, AuthError> {
    offers
        .iter()
        .find(|auth| auth.method == METHOD && auth.mechanism == MECHANISM)
        .ok_or_else(|| {
            let names: Vec<String> = offers
                .iter()
                .map(|auth| format!("{}/{}", auth.method, auth.mechanism))
                .collect();
            AuthError::NotOffered {
                offered: names.join(", "),
            }
        })
}

/// A server without tokens answers SUCCESS at once; it could be anybody, so a token holder does not go on.
fn refuse(answer: &RpcSasl) -> AuthError {
    if answer.state() == SaslState::Success && answer.state == i32::from(SaslState::Success) {
        AuthError::NotOffered {
            offered: "SIMPLE".to_owned(),
        }
    } else {
        AuthError::Unexpected(answer.state)
    }
}

async fn send(stream: &mut TcpStream, message: &RpcSasl) -> Result<(), AuthError> {
    let mut out = BytesMut::new();
    frame::put_sasl(&mut out, message);
    Ok(stream.write_all(&out).await?)
}

async fn expect(
    stream: &mut TcpStream,
    decoder: &mut FrameDecoder,
    state: SaslState,
) -> Result<Vec<u8>, AuthError> {
    let answer = receive(stream, decoder).await?;
    if answer.state == i32::from(state) {
        Ok(answer.token.unwrap_or_default())
    } else {
        Err(AuthError::Unexpected(answer.state))
    }
}

async fn receive(stream: &mut TcpStream, decoder: &mut FrameDecoder) -> Result<RpcSasl, AuthError> {
    let frame = loop {
        if let Some(frame) = decoder.next_frame()? {
            break frame;
        }
        if stream.read_buf(decoder.buffer_mut()).await? == 0 {
            return Err(std::io::Error::from(std::io::ErrorKind::UnexpectedEof).into());
        }
    };
    let response = Response::decode(frame)?;
    if let Some(remote) = RemoteException::from_header(&response.header) {
        return Err(AuthError::Refused(remote));
    }
    if response.call_id() != frame::SASL_CALL {
        return Err(FrameError::UnexpectedCall(response.call_id()).into());
    }
    Ok(response.message()?)
}

/// Fresh random text for the response.
fn client_nonce() -> String {
    let mut bytes = [0; 30];
    getrandom::fill(&mut bytes).expect("the system has randomness");
    STANDARD_NO_PAD.encode(bytes)
}
