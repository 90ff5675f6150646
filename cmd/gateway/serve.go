package main

import (
	"context"
	"io"
	"time"

	"github.com/KimMachineGun/automemlimit/memlimit"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

// runServe is the serve command: it runs a gateway against an external NATS
// until ctx ends, then drains it.
func runServe(ctx context.Context, hurry <-chan struct{}, cfg *Config, out io.Writer) error {
	level := zap.NewAtomicLevel()
	log := newLog(cfg, &level, out, false)
	defer func() { _ = log.Sync() }()
	if limit := memoryLimit(); limit > 0 {
		if _, err := memlimit.Set(memlimit.WithProvider(memlimit.Limit(uint64(limit)))); err != nil {
			log.Warn("GOMEMLIMIT could not be set", zap.Error(err))
		}
	}
	g, err := newGateway(cfg, log, &level, nil)
	if err != nil {
		return err
	}
	defer g.Close()
	return g.Run(ctx, hurry)
}

// newLog logs JSON in production and lines for people in dev. Under a flood
// of equal lines it keeps the first hundred a second and then every hundredth.
func newLog(cfg *Config, level *zap.AtomicLevel, out io.Writer, people bool) *zap.Logger {
	parsed, err := zapcore.ParseLevel(cfg.Log.Level)
	if err != nil {
		parsed = zapcore.InfoLevel
	}
	level.SetLevel(parsed)
	config := zap.NewProductionEncoderConfig()
	config.EncodeTime = zapcore.RFC3339NanoTimeEncoder
	config.EncodeDuration = zapcore.StringDurationEncoder
	encoder := zapcore.NewJSONEncoder(config)
	if people {
		config.EncodeTime = zapcore.TimeEncoderOfLayout("15:04:05.000")
		config.EncodeLevel = zapcore.CapitalLevelEncoder
		encoder = zapcore.NewConsoleEncoder(config)
	}
	core := zapcore.NewCore(encoder, zapcore.Lock(zapcore.AddSync(out)), level)
	return zap.New(zapcore.NewSamplerWithOptions(core, time.Second, 100, 100))
}

// memoryLimit is the container's memory limit in bytes, 0 for none.
func memoryLimit() int64 {
	limit, err := memlimit.FromCgroup()
	if err != nil || limit > 1<<50 {
		return 0
	}
	return int64(limit)
}
