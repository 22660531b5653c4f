# Packer before 1.7 rejects this block and later ones need it, so it lies apart from the template and is laid beside it
# for Packer >= 1.7 only.
packer {
  required_plugins {
    amazon = {
      source  = "github.com/hashicorp/amazon"
      version = "~> 1.8"
    }
  }
}
