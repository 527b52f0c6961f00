//! Messages to bytes and back, with the memory of a message reserved once.

use std::marker::PhantomData;

use prost::Message;
use tonic::Status;
use tonic::codec::{BufferSettings, EncodeBuf, Encoder};
use tonic_prost::ProstDecoder;

/// What is reserved before the size of a message is known. Most unary calls fit.
const FIRST_BUFFER: usize = 1024;
/// Messages that are ready together go to the socket together up to this size.
const YIELD_AT: usize = 64 * 1024;

/// The codec of every generated client and server.
#[derive(Debug)]
pub(crate) struct Codec<T, U>(PhantomData<(T, U)>);

#[derive(Debug)]
pub(crate) struct SizedEncoder<T>(PhantomData<T>);

impl<T, U> Default for Codec<T, U> {
    fn default() -> Self {
        Self(PhantomData)
    }
}

impl<T, U> tonic::codec::Codec for Codec<T, U>
where
    T: Message + Send + 'static,
    U: Message + Default + Send + 'static,
{
    type Encode = T;
    type Decode = U;
    type Encoder = SizedEncoder<T>;
    type Decoder = ProstDecoder<U>;

    fn encoder(&mut self) -> Self::Encoder {
        SizedEncoder(PhantomData)
    }

    fn decoder(&mut self) -> Self::Decoder {
        ProstDecoder::new(settings())
    }
}

impl<T: Message> Encoder for SizedEncoder<T> {
    type Item = T;
    type Error = Status;

    /// Without the reservation the buffer of a message of 1 MiB doubles, and is copied, seven times.
    fn encode(&mut self, item: T, out: &mut EncodeBuf<'_>) -> Result<(), Status> {
        out.reserve(item.encoded_len());
        item.encode(out).map_err(|error| Status::internal(error.to_string()))
    }

    fn buffer_settings(&self) -> BufferSettings {
        settings()
    }
}

fn settings() -> BufferSettings {
    BufferSettings::new(FIRST_BUFFER, YIELD_AT)
}
