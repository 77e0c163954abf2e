package heartbeattest

import "testing"

func (s suite) engine(t *testing.T) {}
