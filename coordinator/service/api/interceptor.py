"""Wraps every call: finds its user, checks its bytes, notes changes, and names its errors."""

import asyncio
import logging
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable
from inspect import isawaitable
from time import perf_counter
from typing import Any

import grpc
from google.protobuf.message import DecodeError

from coordinator.service.api.audit import Audit
from coordinator.service.api.calls import CALL, Call
from coordinator.service.errors import INTERNAL, MALFORMED, NO_TOKEN, ServiceError
from coordinator.service.users import ANYONE, User, Users
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

    def __init__(self, users: Users, audit: Audit) -> None:
        self._users, self._audit = users, audit

    async def intercept_service(
        self, continuation: Continuation, handler_call_details: grpc.HandlerCallDetails
    ) -> Handler:
        """Return the method's handler, wrapped, or one that refuses a call without the token."""
        method = handler_call_details.method
        user = ANYONE if method.startswith(_PUBLIC) else self._user(handler_call_details)
        if user is None:
            return _refusal(
                ServiceError(NO_TOKEN, "the call needs the service's token (--token-file)")
            )
        handler = await continuation(handler_call_details)
        return _guarded(handler, method, user, self._audit) if handler is not None else handler

    def _user(self, details: grpc.HandlerCallDetails) -> User | None:
        given = dict(details.invocation_metadata or ()).get("authorization", "")
        return self._users.bearing(given.encode() if isinstance(given, str) else given)


def _refusal(error: ServiceError) -> Handler:
    async def refuse(_: AsyncIterator[Any], context: Context) -> AsyncIterator[Any]:
        await context.abort(error.kind.status, str(error))
        yield  # makes this an async generator, as a stream's handler must be

    return grpc.stream_stream_rpc_method_handler(refuse)


def _guarded(handler: Handler, method: str, user: User, audit: Audit) -> Handler:
    """Return a handler that does the same, but ends each failure with an error of CATALOGUE.

    audit: gets a line about the call if it changes something.
    """
    decode = _decoder(handler.request_deserializer)
    if handler.response_streaming:

        async def stream(request: Any, context: Context) -> AsyncIterator[Any]:
            call = handler.stream_stream if handler.request_streaming else handler.unary_stream
            given = _checked(request) if handler.request_streaming else request
            started = perf_counter()
            CALL.set(Call(user))
            try:
                _check(request)
                responses = call(given, context)
                if isawaitable(responses):  # gRPC's health service writes its responses itself
                    await responses
                    return
                async for response in responses:
                    yield response
            except Exception as error:  # noqa: BLE001
                await _abort(_known(error, method), context)
            finally:
                CALL_SECONDS.labels(method).observe(perf_counter() - started)

        make = (
            grpc.stream_stream_rpc_method_handler
            if handler.request_streaming
            else grpc.unary_stream_rpc_method_handler
        )
        return make(stream, decode, handler.response_serializer)

    async def single(request: Any, context: Context) -> Any:
        started, call = perf_counter(), Call(user)
        CALL.set(call)
        answer = handler.stream_unary if handler.request_streaming else handler.unary_unary
        given = _checked(request) if handler.request_streaming else request
        try:
            _check(request)
            response = await answer(given, context)
            audit.note(method, call, "OK")  # before the client knows
            return response
        except asyncio.CancelledError:
            audit.note(method, call, "the client gave up")
            raise
        except Exception as error:  # noqa: BLE001
            known = _known(error, method)
            audit.note(method, call, str(known))
            return await _abort(known, context)
        finally:
            CALL_SECONDS.labels(method).observe(perf_counter() - started)

    make_single = (
        grpc.stream_unary_rpc_method_handler
        if handler.request_streaming
        else grpc.unary_unary_rpc_method_handler
    )
    return make_single(single, decode, handler.response_serializer)


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


def _known(error: Exception, method: str) -> ServiceError:
    """Return an error of CATALOGUE; the details of an unexpected one go only to the log."""
    if isinstance(error, grpc.aio.AbortError):
        raise error
    if isinstance(error, ServiceError):
        return error
    entry = secrets.token_hex(4)
    logger.error("%s failed, entry %s", method, entry, exc_info=error)
    return ServiceError(INTERNAL, f"an error of the service; see entry {entry} of its log")


async def _abort(error: ServiceError, context: Context) -> None:
    """End the call with an error."""
    await context.abort(error.kind.status, str(error))
