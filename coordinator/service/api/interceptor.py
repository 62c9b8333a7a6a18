"""Wraps every call: checks its token and its bytes, and turns exceptions into known errors."""

import asyncio
import logging
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable
from inspect import isawaitable
from time import perf_counter
from typing import Any

import grpc
from google.protobuf.message import DecodeError

from coordinator.service.errors import INTERNAL, MALFORMED, NO_TOKEN, ServiceError
from coordinator.service.settings import bears_token
from coordinator.service.web.metrics import CALL_SECONDS

_PUBLIC = "/grpc.health.v1.Health/"  # health probes have no token

logger = logging.getLogger(__name__)

Handler = Any  # grpc.RpcMethodHandler, whose type stubs lack aio
Continuation = Callable[[grpc.HandlerCallDetails], Awaitable[Handler]]
Context = grpc.aio.ServicerContext[Any, Any]


class _Undecodable:
    """Takes the place of a request whose bytes are not a message."""


class AuthInterceptor(grpc.aio.ServerInterceptor):
    """Intercepts the calls of all methods, including those of reflection."""

    def __init__(self, token: str | None) -> None:
        self._token = token

    async def intercept_service(
        self, continuation: Continuation, handler_call_details: grpc.HandlerCallDetails
    ) -> Handler:
        """Return the method's handler, wrapped, or one that refuses a call without the token."""
        method = handler_call_details.method
        if not method.startswith(_PUBLIC) and not self._bears_token(handler_call_details):
            return _refusal(
                ServiceError(NO_TOKEN, "the call needs the service's token (--token-file)")
            )
        handler = await continuation(handler_call_details)
        return _guarded(handler, method) if handler is not None else handler

    def _bears_token(self, details: grpc.HandlerCallDetails) -> bool:
        given = dict(details.invocation_metadata or ()).get("authorization", "")
        return bears_token(self._token, given.encode() if isinstance(given, str) else given)


def _refusal(error: ServiceError) -> Handler:
    async def refuse(_: AsyncIterator[Any], context: Context) -> AsyncIterator[Any]:
        await context.abort(error.kind.status, str(error))
        yield  # makes this an async generator, as a stream's handler must be

    return grpc.stream_stream_rpc_method_handler(refuse)


def _guarded(handler: Handler, method: str) -> Handler:
    """Return a handler that does the same, but ends each failure with an error of CATALOGUE."""
    decode = _decoder(handler.request_deserializer)
    if handler.response_streaming:

        async def stream(request: Any, context: Context) -> AsyncIterator[Any]:
            call = handler.stream_stream if handler.request_streaming else handler.unary_stream
            given = _checked(request) if handler.request_streaming else request
            started = perf_counter()
            try:
                _check(request)
                responses = call(given, context)
                if isawaitable(responses):  # gRPC's health service writes its responses itself
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
            return _Undecodable()  # for an exception here gRPC would answer INTERNAL

    return safe


def _check(request: Any) -> None:
    if isinstance(request, _Undecodable):
        raise ServiceError(MALFORMED, "the bytes are not a message of this method")


async def _checked(requests: AsyncIterator[Any]) -> AsyncIterator[Any]:
    async for request in requests:
        _check(request)
        yield request


async def _abort(error: Exception, context: Context, method: str) -> None:
    """End the call with an error; the details of an unexpected one go only to the log."""
    if isinstance(error, grpc.aio.AbortError | asyncio.CancelledError):
        raise error
    if not isinstance(error, ServiceError):
        entry = secrets.token_hex(4)
        logger.error("%s failed, entry %s", method, entry, exc_info=error)
        error = ServiceError(INTERNAL, f"an error of the service; see entry {entry} of its log")
    await context.abort(error.kind.status, str(error))
