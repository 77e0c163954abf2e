package memcached

import (
	"testing"
	"time"

	"gophd/internal/heartbeat"
	"gophd/internal/heartbeat/heartbeattest"
)

func TestSuite(t *testing.T) {
	server := heartbeattest.Memcached(t)
	heartbeattest.Run(t, func(t *testing.T) heartbeat.Store {
		s, err := Open(server.Addr(), 500*time.Millisecond)
		if err != nil {
			t.Fatal(err)
		}
		return s
	})
}
