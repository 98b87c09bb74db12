package main

import (
	"log/slog"
)

// logLevels are the accepted values of the setting log-level.
var logLevels = map[string]slog.Level{
	"debug": slog.LevelDebug, "info": slog.LevelInfo, "warn": slog.LevelWarn, "error": slog.LevelError,
}

// newLogger writes one line of key=value pairs per event to standard error. It is what packages log to that are given none.
func (env *environment) newLogger() *slog.Logger {
	logger := slog.New(slog.NewTextHandler(env.err, &slog.HandlerOptions{Level: logLevels[env.config.LogLevel]}))
	slog.SetDefault(logger)
	return logger
}
