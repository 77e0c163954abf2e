// Command smallest is the smallest Go program. What gophd takes to start is measured against it.
package main

func main() {}
