//! An answer of the server: header, exception, and the largest of the response messages.
#![no_main]

use libfuzzer_sys::fuzz_target;
use spindle_hadoop::ipc::RemoteException;
use spindle_hadoop::ipc::frame::Response;
use spindle_hadoop::proto::common::RpcSasl;
use spindle_hadoop::proto::yarn::{
    AllocateResponse, GetApplicationsResponse, GetQueueInfoResponse,
};

fuzz_target!(|bytes: &[u8]| {
    let Ok(response) = Response::decode(bytes::Bytes::copy_from_slice(bytes)) else {
        return;
    };
    if let Some(exception) = RemoteException::from_header(&response.header) {
        let _ = exception.to_string();
    }
    let _ = response.clone().message::<RpcSasl>();
    let _ = response.clone().message::<AllocateResponse>();
    let _ = response.clone().message::<GetQueueInfoResponse>();
    let _ = response.message::<GetApplicationsResponse>();
});
