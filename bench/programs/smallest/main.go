// Command smallest is the smallest Go program. The start of gophd is compared with it.
package main

func main() {}
