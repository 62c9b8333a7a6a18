"""The gRPC API: who may call, what each method does, which paths a job may name."""
