namespace vedette {}
