package process

// ShimCommand is the argument with which Start executes gophd's own program as the shim. Its main
// has to call Shim then.
const ShimCommand = "become-command"
