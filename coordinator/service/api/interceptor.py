"""What every call passes: the token, decodable bytes, and errors that are of the catalogue."""

import asyncio
import hmac
import logging
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable
from inspect import isawaitable
from time import perf_counter
from typing import Any

import grpc
from google.protobuf.message import DecodeError

from coordinator.service.errors import INTERNAL, MALFORMED, NO_TOKEN, ServiceError
from coordinator.service.web.metrics import CALL_SECONDS

_OPEN = "/grpc.health.v1.Health/"  # probes have no token

logger = logging.getLogger(__name__)

Handler = Any  # grpc.RpcMethodHandler, whose types know no aio
Continuation = Callable[[grpc.HandlerCallDetails], Awaitable[Handler]]
Context = grpc.aio.ServicerContext[Any, Any]


class _Undecodable:
    """Stands for bytes that are no message."""


class AuthInterceptor(grpc.aio.ServerInterceptor):
    """Stands before all methods, reflection included."""

    def __init__(self, token: str | None) -> None:
        self._token = token

    async def intercept_service(
        self, continuation: Continuation, handler_call_details: grpc.HandlerCallDetails
    ) -> Handler:
        """Return the method's handler, wrapped; or one that refuses."""
        method = handler_call_details.method
        if not method.startswith(_OPEN) and not self._bears_token(handler_call_details):
            return _refusal(ServiceError(NO_TOKEN, "give the service's token (--token-file)"))
        handler = await continuation(handler_call_details)
        return _guarded(handler, method) if handler is not None else handler

    def _bears_token(self, details: grpc.HandlerCallDetails) -> bool:
        if self._token is None:
            return True
        given = dict(details.invocation_metadata or ()).get("authorization", "")
        text = given if isinstance(given, str) else given.decode("latin-1")
        expected = f"Bearer {self._token}"
        return hmac.compare_digest(text.encode(), expected.encode())


def _refusal(error: ServiceError) -> Handler:
    async def refuse(_: AsyncIterator[Any], context: Context) -> AsyncIterator[Any]:
        await context.abort(error.kind.status, str(error))
        yield  # an async generator, as a stream's handler must be

    return grpc.stream_stream_rpc_method_handler(refuse)


def _guarded(handler: Handler, method: str) -> Handler:
    """Return the same handler that turns every exception into an error of the catalogue."""
    decode = _decoder(handler.request_deserializer)
    if handler.response_streaming:

        async def stream(request: Any, context: Context) -> AsyncIterator[Any]:
            behaviour = handler.stream_stream if handler.request_streaming else handler.unary_stream
            given = _checked(request) if handler.request_streaming else request
            started = perf_counter()
            try:
                _check(request)
                responses = behaviour(given, context)
                if isawaitable(responses):  # gRPC's own health service writes them itself
                    await responses
                    return
                async for response in responses:
                    yield response
            except Exception as error:  # noqa: BLE001
                await _abort(error, context, method)
            finally:
                CALL_SECONDS.labels(method).observe(perf_counter() - started)

        make = (
            grpc.stream_stream_rpc_method_handler
            if handler.request_streaming
            else grpc.unary_stream_rpc_method_handler
        )
        return make(stream, decode, handler.response_serializer)

    async def single(request: Any, context: Context) -> Any:
        started = perf_counter()
        try:
            _check(request)
            return await handler.unary_unary(request, context)
        except Exception as error:  # noqa: BLE001
            return await _abort(error, context, method)
        finally:
            CALL_SECONDS.labels(method).observe(perf_counter() - started)

    return grpc.unary_unary_rpc_method_handler(single, decode, handler.response_serializer)


def _decoder(decode: Callable[[bytes], Any] | None) -> Callable[[bytes], Any] | None:
    if decode is None:
        return None

    def safe(data: bytes) -> Any:
        try:
            return decode(data)
        except (DecodeError, UnicodeDecodeError, ValueError):
            return _Undecodable()  # raised here, gRPC would answer INTERNAL

    return safe


def _check(request: Any) -> None:
    if isinstance(request, _Undecodable):
        raise ServiceError(MALFORMED, "the bytes are no message of this method")


async def _checked(requests: AsyncIterator[Any]) -> AsyncIterator[Any]:
    async for request in requests:
        _check(request)
        yield request


async def _abort(error: Exception, context: Context, method: str) -> None:
    """End the call with an error; whatever nobody foresaw goes to the log alone."""
    if isinstance(error, grpc.aio.AbortError | asyncio.CancelledError):
        raise error
    if not isinstance(error, ServiceError):
        entry = secrets.token_hex(4)
        logger.error("%s failed, entry %s", method, entry, exc_info=error)
        error = ServiceError(INTERNAL, f"a fault of the service; its log has entry {entry}")
    await context.abort(error.kind.status, str(error))
