package process

// ShimCommand is the word by which Start executes this very program as the shim; its main has to call Shim then.
const ShimCommand = "become-command"
