//! Golden bytes of frames, and bytes that are no frames.

use proptest::prelude::*;

use super::*;
use crate::ipc::testing::unhex;
use crate::proto::common::rpc_sasl::SaslState;
use crate::yarn::APPLICATION_CLIENT;

const CLIENT_ID: ClientId = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15];
const NEGOTIATE: &str = "0000000e 0a 08021000184122002801 02 1001";
const CONTEXT: &str = "0000005d 1a 0802100018052210000102030405060708090a0b0c0d0e0f2801
    41 12070a05616c6963651a366f72672e6170616368652e6861646f6f702e7961726e2e6170692e4170706c69636174696f6e436c69656e7450726f746f636f6c5042";
const GET_NEW_APPLICATION: &str = "0000006a 1a 0802100018002210000102030405060708090a0b0c0d0e0f2800
    4d 0a116765744e65774170706c69636174696f6e12366f72672e6170616368652e6861646f6f702e7961726e2e6170692e4170706c69636174696f6e436c69656e7450726f746f636f6c50421801 00";
const PING: &str = "0000001b 1a 0802100018072210000102030405060708090a0b0c0d0e0f2801";

fn encoded(put: impl FnOnce(&mut BytesMut)) -> Vec<u8> {
    let mut out = BytesMut::new();
    put(&mut out);
    out.to_vec()
}

fn frame(golden: &str) -> Bytes {
    let mut decoder = FrameDecoder::new(MAX_FRAME);
    decoder.extend(&unhex(golden));
    let frame = decoder.next_frame().unwrap().unwrap();
    assert!(decoder.is_empty());
    frame
}

#[test]
fn the_preamble_is_hadoops() {
    assert_eq!(
        preamble(AuthProtocol::None).to_vec(),
        unhex("68727063 09 00 00")
    );
    assert_eq!(
        preamble(AuthProtocol::Sasl).to_vec(),
        unhex("68727063 09 00 df")
    );
}

#[test]
fn negotiate_is_hadoops_both_ways() {
    let mut bytes = frame(NEGOTIATE);
    let header: pb::RpcRequestHeader = take_message(&mut bytes, "header").unwrap();
    let sasl: pb::RpcSasl = take_message(&mut bytes, "sasl").unwrap();
    assert_eq!((header.call_id, header.retry_count), (SASL_CALL, Some(-1)));
    assert_eq!(sasl.state(), SaslState::Negotiate);
    assert_eq!(encoded(|out| put_sasl(out, &sasl)), unhex(NEGOTIATE));
}

#[test]
fn the_context_is_hadoops_both_ways() {
    let mut bytes = frame(CONTEXT);
    let header: pb::RpcRequestHeader = take_message(&mut bytes, "header").unwrap();
    let context: pb::IpcConnectionContext = take_message(&mut bytes, "context").unwrap();
    assert_eq!(header.call_id, CONTEXT_CALL);
    assert_eq!(context.protocol(), APPLICATION_CLIENT.name);
    let user = context.user_info.unwrap();
    assert_eq!(
        encoded(|out| put_context(
            out,
            &CLIENT_ID,
            APPLICATION_CLIENT,
            user.effective_user.as_deref()
        )),
        unhex(CONTEXT)
    );
}

#[test]
fn a_call_is_hadoops_both_ways() {
    let mut bytes = frame(GET_NEW_APPLICATION);
    let header: pb::RpcRequestHeader = take_message(&mut bytes, "header").unwrap();
    let target: pb::RequestHeader = take_message(&mut bytes, "target").unwrap();
    assert_eq!((header.call_id, header.retry_count), (0, Some(0)));
    assert_eq!(target.method_name, "getNewApplication");
    assert_eq!(&bytes[..], [0], "an empty request is there, with length 0");
    let method = Method::idempotent("getNewApplication");
    let again = encoded(|out| put_call(out, &CLIENT_ID, 0, 0, APPLICATION_CLIENT, method, &[0]));
    assert_eq!(again, unhex(GET_NEW_APPLICATION));
}

#[test]
fn a_ping_is_hadoops() {
    assert_eq!(encoded(|out| put_ping(out, &CLIENT_ID)), unhex(PING));
}

#[test]
fn the_call_id_of_an_answer_is_unsigned_and_not_zigzag() {
    let header = pb::RpcResponseHeader {
        call_id: 4_294_967_263,
        ..Default::default()
    };
    let bytes = encoded(|out| put_response(out, &header, Some(&[0])));
    let mut decoder = FrameDecoder::new(MAX_FRAME);
    decoder.extend(&bytes);
    let response = Response::decode(decoder.next_frame().unwrap().unwrap()).unwrap();
    assert_eq!(response.call_id(), SASL_CALL);
    assert!(response.message::<pb::GetServiceStatusRequest>().is_ok());
}

#[test]
fn a_web_server_is_not_taken_for_hadoop() {
    let mut decoder = FrameDecoder::new(MAX_FRAME);
    decoder.extend(b"HTTP/1.1 404 Not Found\r\n");
    let length = usize::try_from(u32::from_be_bytes(*b"HTTP")).unwrap();
    assert_eq!(
        decoder.next_frame(),
        Err(FrameError::TooLong {
            length,
            limit: MAX_FRAME
        })
    );
}

#[test]
fn frames_come_out_whole_however_they_come_in() {
    let bytes = unhex(&format!("{NEGOTIATE}{CONTEXT}{PING}"));
    for step in 1..9 {
        let mut decoder = FrameDecoder::new(MAX_FRAME);
        let mut lengths = Vec::new();
        for chunk in bytes.chunks(step) {
            decoder.extend(chunk);
            while let Some(frame) = decoder.next_frame().unwrap() {
                lengths.push(frame.len());
            }
        }
        assert_eq!(lengths, [14, 93, 27]);
    }
}

#[test]
fn bytes_behind_the_response_are_an_error() {
    let response = Response {
        header: pb::RpcResponseHeader::default(),
        body: Bytes::from_static(&[0, 7]),
    };
    assert_eq!(
        response.message::<pb::GetServiceStatusRequest>(),
        Err(FrameError::LeftOver(1))
    );
}

proptest! {
    #[test]
    fn decoding_arbitrary_bytes_never_panics(bytes: Vec<u8>, limit in 0usize..64) {
        let mut decoder = FrameDecoder::new(limit);
        decoder.extend(&bytes);
        while let Ok(Some(frame)) = decoder.next_frame() {
            prop_assert!(frame.len() <= limit);
            if let Ok(response) = Response::decode(frame) {
                let _ = crate::ipc::RemoteException::from_header(&response.header);
                let _ = response.message::<crate::proto::yarn::AllocateResponse>();
            }
        }
        if let Ok(response) = Response::decode(Bytes::from(bytes)) {
            let _ = response.message::<pb::RpcSasl>();
        }
    }
}
