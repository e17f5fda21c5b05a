"""What the tests share: real servers, and checks by code that is not ours."""
