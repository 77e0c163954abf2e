// Command tell sends its arguments to $NOTIFY_SOCKET, as the lines of one message of sd_notify(3).
// With STAY set it does not exit, so that the receiver can look at the process that sent the
// message. The scripts use it where an interpreter would take too long to start.
package main

import (
	"fmt"
	"net"
	"os"
	"strings"
)

func main() {
	c, err := net.Dial("unixgram", os.Getenv("NOTIFY_SOCKET"))
	if err == nil {
		_, err = c.Write([]byte(strings.Join(os.Args[1:], "\n")))
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "tell:", err)
		os.Exit(1)
	}
	if os.Getenv("STAY") != "" {
		select {}
	}
}
