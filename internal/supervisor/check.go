package supervisor

import (
	"gophd/internal/config"
	"gophd/internal/logging"
)

// Check says what is wrong with a config that was loaded, beyond what config itself can know, without
// any side effect: it asks the rooms that will have to live with it.
func Check(c *config.Config) error {
	return logging.Check(logOptions(Options{Config: c}))
}
